//! Rules of `--filter`, which select records.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;

use super::{Content, Field, Record, Value};
use crate::{
    flow::{Delta, Direction},
    tasks::Attribute,
};

/// A list of rules. The first rule that matches a record decides; without a match the record is
/// written.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Rule>);

/// A rule, such as `drop port=53 protocol=udp`.
#[derive(Clone, Debug)]
pub struct Rule {
    keeps: bool,
    conditions: Vec<Condition>,
    text: Box<str>,
}

/// A condition of a rule.
#[derive(Clone, Debug)]
struct Condition {
    test: Test,
    /// Written `!=`.
    negated: bool,
}

/// A key with values, one of which must match.
#[derive(Clone, Debug)]
enum Test {
    Addresses(Ends, Vec<IpNet>),
    Ports(Ends, Vec<RangeInclusive<u16>>),
    Protocol(Vec<u8>),
    Direction(Vec<Direction>),
    Action(Vec<Box<str>>),
    Interface(Vec<Box<str>>),
    Service(Vec<Box<str>>),
}

/// The ends of a flow that a condition examines.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Source,
    Destination,
    Either,
}

/// Error of parsing a rule. The text is one line of advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The rule begins with neither `keep` nor `drop`.
    #[error("{0:?} is no rule: begin it with keep or drop, as in 'drop port=53 protocol=udp'")]
    Verb(String),
    /// A word is not a condition.
    #[error(
        "{0:?} is no condition: write key=value or key!=value, with commas between several values"
    )]
    Condition(String),
    /// Unknown key.
    #[error(
        "{0:?} is no key: give one of addr, srcaddr, dstaddr, port, srcport, dstport, protocol, direction, action, \
         interface and service"
    )]
    Key(String),
    /// Invalid value for the key.
    #[error("{key}={value:?}: give {wanted}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Description of a valid value.
        wanted: &'static str,
    },
}

impl Filter {
    /// Creates a filter with these rules, in this order.
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// True without rules.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if the record is to be written.
    pub fn keeps(&self, record: &Record<'_>) -> bool {
        self.0.iter().find(|rule| rule.is_met(record)).is_none_or(|rule| rule.keeps)
    }
}

impl Rule {
    /// True if all conditions match. A record without a flow (NODATA, SKIPDATA) may concern flows
    /// that a `drop` rule does not match, so it is kept in doubt.
    fn is_met(&self, record: &Record<'_>) -> bool {
        self.conditions.iter().all(|Condition { test, negated }| {
            let fits = match record.content {
                Content::Flow(flow) => test.fits(record, Some(flow)),
                Content::NoData | Content::SkipData(_) => test.fits(record, None),
            };
            fits.map_or(self.keeps, |fits| fits != *negated)
        })
    }
}

impl Test {
    /// Matches a record; `None` if the answer depends on a flow and there is none.
    fn fits(&self, record: &Record<'_>, flow: Option<&Delta>) -> Option<bool> {
        let subject = record.subject;
        Some(match self {
            Self::Interface(names) => {
                let own = [&subject.interface_id, &subject.interface_name];
                names.iter().any(|name| own.contains(&name))
            }
            Self::Service(names) => is_one_of(names, record.known(Attribute::ServiceName)),
            Self::Addresses(ends, blocks) => {
                let key = &flow?.key;
                let fits = |address: IpAddr| blocks.iter().any(|block| block.contains(&address));
                ends.any(|| fits(key.source()), || fits(key.destination()))
            }
            Self::Ports(ends, ranges) => {
                let key = &flow?.key;
                let fits = |port: u16| ranges.iter().any(|range| range.contains(&port));
                ends.any(|| fits(key.source_port()), || fits(key.destination_port()))
            }
            Self::Protocol(numbers) => numbers.contains(&flow?.key.protocol()),
            Self::Direction(directions) => directions.contains(&flow?.key.direction()),
            Self::Action(words) => {
                flow?;
                is_one_of(words, Field::Action.value(record))
            }
        })
    }
}

fn is_one_of(texts: &[Box<str>], value: Value<'_>) -> bool {
    matches!(value, Value::Text(text) | Value::Word(text) if texts.iter().any(|known| **known == *text))
}

impl Ends {
    fn any(self, source: impl FnOnce() -> bool, destination: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Source => source(),
            Self::Destination => destination(),
            Self::Either => source() || destination(),
        }
    }
}

impl FromStr for Rule {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut words = text.split_whitespace();
        let keeps = match words.next() {
            Some("keep") => true,
            Some("drop") => false,
            _ => return Err(FilterError::Verb(text.into())),
        };
        let conditions = words.map(condition).collect::<Result<_, _>>()?;
        Ok(Self { keeps, conditions, text: text.trim().into() })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn condition(word: &str) -> Result<Condition, FilterError> {
    let (key, values) = word.split_once('=').ok_or_else(|| FilterError::Condition(word.into()))?;
    let (key, negated) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
    let test = match key {
        "addr" => Test::Addresses(Ends::Either, blocks(key, values)?),
        "srcaddr" => Test::Addresses(Ends::Source, blocks(key, values)?),
        "dstaddr" => Test::Addresses(Ends::Destination, blocks(key, values)?),
        "port" => Test::Ports(Ends::Either, ports(key, values)?),
        "srcport" => Test::Ports(Ends::Source, ports(key, values)?),
        "dstport" => Test::Ports(Ends::Destination, ports(key, values)?),
        "protocol" => {
            Test::Protocol(list(key, values, "tcp, udp, icmp, icmpv6 or a number", protocol)?)
        }
        "direction" => Test::Direction(list(key, values, "ingress or egress", direction)?),
        "action" => Test::Action(list(key, values, "ACCEPT or REJECT", |word| {
            ["ACCEPT", "REJECT"].contains(&word).then(|| word.into())
        })?),
        "interface" => {
            Test::Interface(list(key, values, "an ENI's id, or an interface's name", name)?)
        }
        "service" => Test::Service(list(key, values, "a service's name", name)?),
        _ => return Err(FilterError::Key(key.into())),
    };
    Ok(Condition { test, negated })
}

/// Parses values separated by commas.
fn list<T>(
    key: &str,
    values: &str,
    wanted: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, FilterError> {
    let one = |value: &str| {
        read(value).ok_or_else(|| FilterError::Value {
            key: key.into(),
            value: value.into(),
            wanted,
        })
    };
    values.split(',').map(one).collect()
}

fn blocks(key: &str, values: &str) -> Result<Vec<IpNet>, FilterError> {
    list(key, values, "a CIDR block such as 10.0.0.0/8, or an address", |value| {
        value.parse().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
    })
}

fn ports(key: &str, values: &str) -> Result<Vec<RangeInclusive<u16>>, FilterError> {
    list(key, values, "a port, or a range such as 8000-8999", |value| {
        let (first, last) = value.split_once('-').unwrap_or((value, value));
        let port = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
        let range = port(first)?..=port(last)?;
        (!range.is_empty()).then_some(range)
    })
}

fn protocol(word: &str) -> Option<u8> {
    match word {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        number => number.parse().ok(),
    }
}

fn direction(word: &str) -> Option<Direction> {
    Direction::ALL.into_iter().find(|direction| direction.as_str() == word)
}

fn name(word: &str) -> Option<Box<str>> {
    (!word.is_empty()).then(|| word.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Context, Format, Subject,
        examples::{ENI, WINDOW, eni, flow, identity},
    };

    fn filter(rules: &[&str]) -> Filter {
        Filter::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn keeps(rules: &[&str], subject: &Subject, content: Content<'_>) -> bool {
        let said = Context::new(Format::v2());
        filter(rules).keeps(&Record { context: &said, window: WINDOW, subject, content })
    }

    #[test]
    fn a_condition_holds_for_the_flows_that_it_names() {
        let dns = flow(ENI, Direction::Egress, 17, ("10.0.0.5", "10.0.0.2"), (40_000, 53));
        let subject = Subject { identity: identity(&[(Attribute::ServiceName, "web")]), ..eni() };
        for (condition, holds) in [
            ("addr=10.0.0.2", true),
            ("addr=10.0.0.0/30", true),
            ("addr=192.0.2.0/24,10.0.0.5", true),
            ("srcaddr=10.0.0.2", false),
            ("dstaddr=10.0.0.2", true),
            ("addr=2001:db8::/32", false),
            ("port=53", true),
            ("port=52,54-60", false),
            ("port=1-1023", true),
            ("srcport=53", false),
            ("srcport=32768-60999", true),
            ("dstport=53", true),
            ("protocol=udp", true),
            ("protocol=tcp,17", true),
            ("protocol=icmp,icmpv6", false),
            ("direction=egress", true),
            ("direction=ingress", false),
            ("action=ACCEPT", true),
            ("action=REJECT", false),
            ("service=web,api", true),
            ("service=api", false),
        ] {
            for (word, holds) in
                [(condition.to_owned(), holds), (condition.replacen('=', "!=", 1), !holds)]
            {
                let dropped = !keeps(&[&format!("drop {word}")], &subject, Content::Flow(&dns));
                assert_eq!(dropped, holds, "{word}");
            }
        }
        for name in [&subject.interface_id, &subject.interface_name] {
            assert!(
                !keeps(&[&format!("drop interface={name}")], &subject, Content::Flow(&dns)),
                "{name}"
            );
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_match_decides() {
        let subject = eni();
        let dns = flow(ENI, Direction::Egress, 17, ("10.0.0.5", "10.0.0.2"), (40_000, 53));
        for (rules, kept) in [
            (&[][..], true),
            (&["drop"], false),
            (&["keep port=53", "drop"], true),
            (&["keep port=53 protocol=tcp", "drop"], false),
            (&["drop protocol=udp", "keep port=53"], false),
            (&["drop protocol=tcp"], true),
        ] {
            assert_eq!(keeps(rules, &subject, Content::Flow(&dns)), kept, "{rules:?}");
        }
    }

    #[test]
    fn records_without_a_flow_follow_their_interface_and_are_kept_in_doubt() {
        let subject = Subject { identity: identity(&[(Attribute::ServiceName, "web")]), ..eni() };
        for content in [Content::NoData, Content::SkipData(crate::flow::Traffic::NONE)] {
            for (rules, kept) in [
                (&["drop port=53"][..], true),
                (&["drop port!=53"], true),
                (&["drop action=ACCEPT"], true),
                (&["keep protocol=tcp", "drop"], true),
                (&["keep service=web", "drop"], true),
                (&["keep service=api", "drop"], false),
                (&["drop service=web"], false),
                (&["drop service=web port=53"], true),
            ] {
                assert_eq!(keeps(rules, &subject, content), kept, "{rules:?} {content:?}");
            }
        }
    }

    #[test]
    fn invalid_rules_are_rejected_with_one_line_that_names_them() {
        for (text, words) in [
            ("", "keep or drop"),
            ("port=53", "keep or drop"),
            ("reject port=53", "\"reject port=53\""),
            ("drop 53", "\"53\""),
            ("drop ports=53", "\"ports\""),
            ("drop port=", "port=\"\""),
            ("drop port=70000", "port=\"70000\""),
            ("drop port=9-1", "port=\"9-1\""),
            ("drop addr=10.0.0.0/33", "addr=\"10.0.0.0/33\""),
            ("drop protocol=tpc", "protocol=\"tpc\""),
            ("drop protocol=256", "protocol=\"256\""),
            ("drop direction=up", "ingress or egress"),
            ("drop action=accept", "ACCEPT or REJECT"),
            ("drop service=", "service=\"\""),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
