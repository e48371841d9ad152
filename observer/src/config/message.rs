//! Messages of clap, on one line.

/// Text of an error of clap without its usage, on one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let line = lines.collect::<Vec<_>>().join("; ");
    line.trim_start_matches("error: ").to_owned()
}
