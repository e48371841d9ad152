//! Hostile texts for tests: any text that a source might give.

use fastrand::Rng;
use serde_json::Value;

use super::{
    Attribute, Fact, Identity, Source,
    view::{Detail, View},
};

const PIECES: [&str; 32] = [
    "",
    "-",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\u{b}",
    "\u{c}",
    "\u{1b}[31m",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "\"",
    "'",
    "\\",
    ",",
    "{\"a\":1}",
    "${srcaddr}",
    "null",
    "é",
    "日本",
    "a",
    "eni-0a",
];

/// A random hostile text.
pub(crate) fn hostile(random: &mut Rng) -> String {
    match random.u8(..10) {
        0 => random.choice(["", "-"]).unwrap_or_default().to_owned(),
        1 => PIECES[random.usize(..PIECES.len())].repeat(random.usize(1..10_000)),
        // Bytes that are not UTF-8, as a kernel or a capture may contain.
        2 => String::from_utf8_lossy(&std::array::from_fn::<_, 24, _>(|_| random.u8(..)))
            .into_owned(),
        _ => (0..random.usize(1..6)).map(|_| PIECES[random.usize(..PIECES.len())]).collect(),
    }
}

/// Replaces a quarter of the texts of a document, so that most of its structure stays valid.
fn spoil(value: &mut Value, random: &mut Rng) {
    match value {
        Value::String(text) if random.u8(..4) == 0 => *text = hostile(random),
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, random)),
        Value::Object(pairs) => pairs.values_mut().for_each(|item| spoil(item, random)),
        _ => {}
    }
}

/// Asserts that every detail a source reads from its answer becomes a single word, whatever texts
/// the answer contains.
pub(in crate::tasks) fn assert_words(answer: &str, read: impl Fn(&str) -> Option<View>) {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let mut tasks = 0;
    for seed in 0..500 {
        let mut random = Rng::with_seed(seed);
        let mut spoiled = answer.clone();
        spoil(&mut spoiled, &mut random);
        let text = spoiled.to_string();
        if let Some(view) = read(&text) {
            tasks += view.tasks.len();
            details(&view).for_each(|detail| assert_word(detail, &text));
        }
        // Half of a surrogate pair is invalid JSON: it may give an error, and must not panic.
        let _ = read(&text.replacen("\":\"", "\":\"\\ud800", 1));
    }
    assert!(tasks > 100, "only {tasks} tasks are left to look at");
}

fn details(view: &View) -> impl Iterator<Item = Detail> {
    let of_tasks = view.tasks.iter().flat_map(|task| {
        let containers = task.containers.iter().flat_map(|container| {
            [
                (Attribute::ContainerId, container.id.clone()),
                (Attribute::ContainerName, container.name.clone()),
            ]
        });
        let enis = task.enis.iter().flat_map(|eni| eni.details.clone());
        task.details
            .iter()
            .cloned()
            .chain(enis)
            .chain(containers)
            .chain([(Attribute::TaskId, task.id.clone())])
    });
    view.host.iter().cloned().chain(of_tasks)
}

fn assert_word((attribute, value): Detail, answer: &str) {
    let (identity, _) =
        Identity::default().merge([Fact { attribute, value, source: Source::File }]);
    if let Some(word) = identity.get(attribute) {
        let breaks = |c: char| c.is_whitespace() || c.is_control() || c == '"';
        assert!(!word.contains(breaks) && (1..=2048).contains(&word.len()), "{word:?} of {answer}");
    }
}
