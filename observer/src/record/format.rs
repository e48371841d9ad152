use std::{fmt, str::FromStr};

use super::Field;

/// A list of fields of text and Parquet records, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    fields: Vec<Field>,
    version: u8,
}

/// Error of parsing a format. The text is one line of advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The format has no field.
    #[error(
        "it names no field: give v2, ecs, all, or fields like '${{srcaddr}} ${{bytes}}', in single quotes"
    )]
    Empty,
    /// A part of the format is not a field in AWS's syntax.
    #[error(
        "{0:?} is no field: write a field as ${{srcaddr}}, in single quotes, with a space between fields"
    )]
    Spelling(String),
    /// Unknown field.
    #[error("VPC Flow Logs have no field {name:?}{}", .close.map_or_else(String::new, |field| format!(": did you mean ${{{}}}?", field.name())))]
    Unknown {
        /// Name of the field.
        name: String,
        /// The field with the most similar name.
        close: Option<Field>,
    },
    /// The format repeats a field, which a table cannot.
    #[error("it names ${{{}}} twice: name each field once", .0.name())]
    Twice(Field),
}

impl Format {
    /// AWS's default format: the fields of version 2.
    pub fn v2() -> Self {
        Self::of_versions(|version| version == 2)
    }

    /// Every field up to version 8, the last one with fields about ECS and rejection.
    pub fn ecs() -> Self {
        Self::of_versions(|version| version <= 8)
    }

    /// Every field of every version.
    pub fn all() -> Self {
        Self::of_versions(|_| true)
    }

    fn of_versions(wanted: impl Fn(u8) -> bool) -> Self {
        Self::new(Field::ALL.iter().copied().filter(|field| wanted(field.version())).collect())
    }

    fn new(fields: Vec<Field>) -> Self {
        let version = fields.iter().map(|field| field.version()).max().unwrap_or(2);
        Self { fields, version }
    }

    /// The fields, at least one, without repetition.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Value of the field `version`: the highest version among the fields.
    pub const fn version(&self) -> u8 {
        self.version
    }
}

impl FromStr for Format {
    type Err = FormatError;

    /// Parses `v2`, `ecs`, `all`, or a list in AWS's syntax: `${version} ${account-id} …`.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text.trim() {
            "v2" => return Ok(Self::v2()),
            "ecs" => return Ok(Self::ecs()),
            "all" => return Ok(Self::all()),
            _ => {}
        }
        let mut fields = Vec::new();
        for word in text.split_whitespace() {
            let name = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.ok_or_else(|| FormatError::Spelling(word.into()))?;
            let field = Field::from_name(name)
                .ok_or_else(|| FormatError::Unknown { name: name.into(), close: closest(name) })?;
            if fields.contains(&field) {
                return Err(FormatError::Twice(field));
            }
            fields.push(field);
        }
        if fields.is_empty() { Err(FormatError::Empty) } else { Ok(Self::new(fields)) }
    }
}

impl fmt::Display for Format {
    /// Prints the list in AWS's syntax.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, field) in self.fields.iter().enumerate() {
            let separator = if number == 0 { "" } else { " " };
            write!(f, "{separator}${{{}}}", field.name())?;
        }
        Ok(())
    }
}

/// The field with the most similar name, if one is similar.
fn closest(name: &str) -> Option<Field> {
    const ALIKE: f64 = 0.8;
    let name = name.to_lowercase().replace('_', "-");
    let likeness = |field: &Field| strsim::jaro_winkler(field.name(), &name);
    let closest = Field::ALL.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&closest) >= ALIKE).then_some(closest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_formats_are_aws_s_versions() {
        for (name, fields, version) in [("v2", 14, 2), ("ecs", 40, 8), ("all", 54, 11)] {
            let format: Format = name.parse().unwrap();
            assert_eq!((format.fields().len(), format.version()), (fields, version), "{name}");
        }
    }

    #[test]
    fn a_format_in_aws_s_syntax_is_read_and_written_back() {
        let text = "${srcaddr} ${version} ${ecs-task-id}";
        let format: Format = text.parse().unwrap();
        assert_eq!(format.fields(), [Field::SrcAddr, Field::Version, Field::EcsTaskId]);
        assert_eq!((format.version(), format.to_string().as_str()), (7, text));
        assert_eq!("  ${srcaddr}\n${version}  ".parse::<Format>().unwrap().fields().len(), 2);
        assert_eq!(Format::all().to_string().parse::<Format>().unwrap(), Format::all());
    }

    #[test]
    fn the_version_is_the_highest_among_the_fields() {
        for (text, version) in [
            ("${bytes}", 2),
            ("${bytes} ${vpc-id}", 3),
            ("${az-id} ${bytes}", 4),
            ("${flow-direction}", 5),
            ("${ecs-task-id} ${traffic-path}", 7),
            ("${reject-reason}", 8),
            ("${resource-id}", 9),
            ("${encryption-status}", 10),
            ("${asg-tag-2} ${bytes}", 11),
        ] {
            assert_eq!(text.parse::<Format>().unwrap().version(), version, "{text}");
        }
    }

    #[test]
    fn invalid_formats_are_rejected_with_one_line_that_names_them() {
        for (text, words) in [
            ("", "names no field"),
            ("   ", "names no field"),
            ("v3", "\"v3\""),
            ("srcaddr", "\"srcaddr\""),
            ("${srcaddr}${dstaddr}", "\"srcaddr}${dstaddr\""),
            ("${srcaddr},${dstaddr}", "srcaddr},${dstaddr"),
            ("${srcaddr} ${scraddr}", "did you mean ${srcaddr}?"),
            ("${pkt_srcaddr}", "did you mean ${pkt-srcaddr}?"),
            ("${SrcAddr}", "did you mean ${srcaddr}?"),
            ("${colour}", "\"colour\""),
            ("${}", "\"\""),
            ("${bytes} ${packets} ${bytes}", "${bytes} twice"),
        ] {
            let error = text.parse::<Format>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
