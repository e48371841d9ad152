//! Round trips of AWS's published examples.

use super::{
    Content, Context, Field, FieldType, Format, Record, Subject, TextLines, Value,
    examples::{self, flow, identity},
    write_header, write_text,
};
use crate::{
    flow::{Delta, Direction, InterfaceNumber, Window},
    tasks::Attribute,
};

const SAMPLES: [(&str, &str); 5] = [
    ("v2-default", include_str!("aws/v2-default.log")),
    ("v3-nat-gateway", include_str!("aws/v3-nat-gateway.log")),
    ("v3-tcp-flag-sequence", include_str!("aws/v3-tcp-flag-sequence.log")),
    ("v3-transit-gateway", include_str!("aws/v3-transit-gateway.log")),
    ("v5-service-path-direction", include_str!("aws/v5-service-path-direction.log")),
];

/// A parsed line.
struct Line<'a> {
    format: &'a Format,
    values: Vec<Value<'a>>,
}

impl<'a> Line<'a> {
    fn read(format: &'a Format, line: &'a str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), format.fields().len(), "{line}");
        let values = format.fields().iter().zip(words).map(|(field, word)| {
            match (field.field_type(), word) {
                (_, "-") => Value::Absent,
                (FieldType::Int32 | FieldType::Int64, number) => {
                    Value::Number(number.parse().unwrap())
                }
                (FieldType::String, text) => text.parse().map_or(Value::Word(text), Value::Address),
            }
        });
        Self { format, values: values.collect() }
    }

    fn get(&self, field: Field) -> Value<'a> {
        let at = self.format.fields().iter().position(|other| *other == field);
        at.map_or(Value::Absent, |at| self.values[at])
    }

    fn text(&self, field: Field) -> &'a str {
        if let Value::Word(text) = self.get(field) { text } else { "" }
    }

    fn number(&self, field: Field) -> u64 {
        if let Value::Number(number) = self.get(field) { number } else { 0 }
    }

    fn window(&self) -> Window {
        Window { start: self.number(Field::Start) as i64, end: self.number(Field::End) as i64 }
    }

    /// The interface of the line.
    fn subject(&self) -> Subject {
        let own = [(Field::SrcAddr, Field::PktSrcAddr), (Field::DstAddr, Field::PktDstAddr)];
        let primary =
            own.into_iter().find_map(|(own, packet)| match (self.get(own), self.get(packet)) {
                (Value::Address(own), Value::Address(packet)) if own != packet => {
                    own.to_string().parse().ok()
                }
                _ => None,
            });
        Subject {
            interface_id: self.text(Field::InterfaceId).into(),
            primary,
            identity: identity(&[
                (Attribute::VpcId, self.text(Field::VpcId)),
                (Attribute::SubnetId, self.text(Field::SubnetId)),
                (Attribute::InstanceId, self.text(Field::InstanceId)),
                (Attribute::Region, self.text(Field::Region)),
                (Attribute::AzId, self.text(Field::AzId)),
            ]),
            ..Subject::default()
        }
    }

    /// The flow of the line.
    fn flow(&self) -> Delta {
        let end = |packet, plain| match (self.get(packet), self.get(plain)) {
            (Value::Address(address), _) | (_, Value::Address(address)) => address,
            it => panic!("{it:?}"),
        };
        let (source, destination) =
            (end(Field::PktSrcAddr, Field::SrcAddr), end(Field::PktDstAddr, Field::DstAddr));
        let egress = self.text(Field::FlowDirection) == "egress"
            || matches!(self.get(Field::SrcAddr), Value::Address(own) if own != source);
        let mut delta = flow(
            InterfaceNumber::new(1),
            if egress { Direction::Egress } else { Direction::Ingress },
            self.number(Field::Protocol) as u8,
            (&source.to_string(), &destination.to_string()),
            (self.number(Field::SrcPort) as u16, self.number(Field::DstPort) as u16),
        );
        delta.counters.packets = self.number(Field::Packets);
        delta.counters.bytes = self.number(Field::Bytes);
        delta.counters.first_ms = self.window().start * 1000;
        delta.counters.last_ms = self.window().end * 1000 + 999;
        delta.counters.tcp_flags_aws = self.number(Field::TcpFlags) as u8;
        delta
    }

    /// The line that observer writes for the same packets.
    fn observed(&self) -> String {
        let context = Context {
            account_id: Some(self.text(Field::AccountId).into()),
            region: None,
            vpc: Vec::new(),
            ..examples::context(self.format.clone())
        };
        let subject = self.subject();
        let is_flow = matches!(self.get(Field::SrcAddr), Value::Address(_));
        let delta = is_flow.then(|| self.flow());
        let kind = match (&delta, self.text(Field::LogStatus)) {
            (_, "NODATA") => Content::NoData,
            (_, "SKIPDATA") => Content::SkipData(crate::flow::Traffic::NONE),
            (Some(delta), _) => Content::Flow(delta),
            it => panic!("{it:?}"),
        };
        let record =
            Record { context: &context, window: self.window(), subject: &subject, content: kind };
        let (mut plain, mut by_template) = (Vec::new(), Vec::new());
        write_text(&record, &mut plain);
        TextLines::default().write(InterfaceNumber::new(1), &record, &mut by_template);
        assert_eq!(plain, by_template);
        String::from_utf8(plain).unwrap()
    }
}

fn format_of(header: &str) -> Format {
    let fields: Vec<String> = header.split(' ').map(|name| format!("${{{name}}}")).collect();
    fields.join(" ").parse().unwrap()
}

#[test]
fn values_of_aws_s_examples_are_written_as_they_were_read() {
    for (name, sample) in SAMPLES {
        let mut lines = sample.lines();
        let format = format_of(lines.next().unwrap());
        let mut written = Vec::new();
        write_header(&format, &mut written);
        for line in lines {
            for (number, value) in Line::read(&format, line).values.into_iter().enumerate() {
                if number != 0 {
                    written.push(b' ');
                }
                value.write_text(&mut written);
            }
            written.push(b'\n');
        }
        assert_eq!(String::from_utf8(written).unwrap(), sample, "{name}");
    }
}

#[test]
fn the_packets_of_aws_s_examples_give_the_same_lines() {
    for (name, sample) in SAMPLES {
        let mut lines = sample.lines();
        let format = format_of(lines.next().unwrap());
        for line in lines {
            // A host knows neither the gateway that a packet takes nor the decisions of security
            // groups.
            let expected = line.replace(" 8 egress", " - egress").replace(" REJECT ", " ACCEPT ");
            assert_eq!(Line::read(&format, line).observed(), format!("{expected}\n"), "{name}");
        }
    }
}
