use super::{
    Batch, Context, Extension, Field, Format, JsonLines, Record, TextLines, Value,
    examples::{ENI, PLAIN, WINDOW, batch, context, eni, flow},
    write_header, write_json, write_text,
};
use crate::flow::{Direction, Table};
use serde_json::{Map, Value as Json};

fn formats() -> Vec<Format> {
    let custom = [
        "${version}",
        "${end} ${srcaddr} ${ecs-service-name}",
        "${log-status} ${traffic-path} ${type}",
    ];
    let mut formats = vec![Format::v2(), Format::ecs(), Format::all()];
    formats.extend(custom.map(|text| text.parse::<Format>().unwrap()));
    formats
}

/// Value of a field of any origin in the record of a flow.
fn of_flow(context: &Context, flow: &crate::flow::Delta, field: Field) -> String {
    let subject = eni();
    let record =
        Record { context, window: WINDOW, subject: &subject, content: super::Content::Flow(flow) };
    let mut out = Vec::new();
    field.value(&record).write_text(&mut out);
    String::from_utf8(out).unwrap()
}

fn text_lines(batch: &Batch, context: &Context) -> Vec<String> {
    let (mut lines, mut templates) = (Vec::new(), TextLines::default());
    for (interface, record) in batch.records(context) {
        let mut line = Vec::new();
        templates.write(interface, &record, &mut line);
        lines.push(String::from_utf8(line).unwrap());
    }
    lines
}

fn json_lines(batch: &Batch, context: &Context) -> Vec<Map<String, Json>> {
    let (mut lines, mut templates) = (Vec::new(), JsonLines::default());
    for (interface, record) in batch.records(context) {
        let mut line = Vec::new();
        templates.write(interface, &record, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        lines.push(serde_json::from_str(&line).unwrap());
    }
    lines
}

#[test]
fn values_rendered_once_for_an_interface_are_those_of_each_record() {
    let batch = batch();
    for context in
        formats().into_iter().flat_map(|format| [context(format.clone()), Context::new(format)])
    {
        let (mut text, mut json) = (TextLines::default(), JsonLines::default());
        for (interface, record) in batch.records(&context) {
            let (mut by_template, mut plain) = (Vec::new(), Vec::new());
            text.write(interface, &record, &mut by_template);
            write_text(&record, &mut plain);
            json.write(interface, &record, &mut by_template);
            write_json(&record, &mut plain);
            assert_eq!(String::from_utf8(by_template).unwrap(), String::from_utf8(plain).unwrap());
        }
    }
}

#[test]
fn text_has_one_space_between_as_many_words_as_its_header_has() {
    for format in formats() {
        let mut header = Vec::new();
        write_header(&format, &mut header);
        let names: Vec<&str> = format.fields().iter().map(|field| field.name()).collect();
        assert_eq!(header, format!("{}\n", names.join(" ")).into_bytes());
        for line in text_lines(&batch(), &context(format)) {
            let words: Vec<&str> = line.strip_suffix('\n').unwrap().split(' ').collect();
            assert_eq!(words.len(), names.len(), "{line}");
            assert!(words.iter().all(|word| !word.is_empty()), "{line}");
        }
    }
}

#[test]
fn records_without_a_flow_have_aws_s_dashes() {
    let lines = text_lines(&batch(), &Context::new(Format::v2()));
    let [nodata, skipdata] = &lines[lines.len() - 2..] else { panic!() };
    assert_eq!(
        nodata,
        "2 012345678901 eni-0123456789abcdef0 - - - - - - - 1700000040 1700000100 - NODATA\n"
    );
    assert_eq!(skipdata, "2 - veth1 - - - - - - - 1700000040 1700000100 - SKIPDATA\n");
}

#[test]
fn json_holds_the_values_of_text_and_every_key_once() {
    let batch = batch();
    for format in formats() {
        let context = context(format.clone());
        let text = text_lines(&batch, &context);
        let json = json_lines(&batch, &context);
        assert_eq!(text.len(), json.len());
        for (text, json) in text.iter().zip(&json) {
            let words = text.strip_suffix('\n').unwrap().split(' ');
            for (field, word) in format.fields().iter().zip(words) {
                let value = match json.get(field.key()) {
                    None => {
                        assert_ne!(field.version(), 2, "{} is missing", field.key());
                        "-".to_owned()
                    }
                    Some(Json::Null) => {
                        assert_eq!(field.version(), 2, "{} is null", field.key());
                        "-".to_owned()
                    }
                    Some(Json::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                };
                assert_eq!(value, word, "{}", field.key());
            }
        }
    }
}

#[test]
fn keys_stand_in_the_order_of_the_tables_each_once() {
    let order: Vec<&str> =
        Field::ALL.iter().map(|f| f.key()).chain(Extension::ALL.iter().map(|e| e.key())).collect();
    let context = context(Format::all());
    let mut templates = JsonLines::default();
    for (interface, record) in batch().records(&context) {
        let mut line = Vec::new();
        templates.write(interface, &record, &mut line);
        let line = String::from_utf8(line).unwrap();
        let at: Vec<usize> = order
            .iter()
            .filter_map(|key| {
                let found: Vec<_> = line.match_indices(&format!("\"{key}\":")).collect();
                assert!(found.len() <= 1, "{key} in {line}");
                found.first().map(|(at, _)| *at)
            })
            .collect();
        assert!(at.is_sorted(), "{line}");
    }
}

#[test]
fn an_eni_s_own_end_is_its_primary_address_and_the_packets_keep_theirs() {
    let context = Context::new(Format::all());
    for (direction, ends, logged) in [
        (Direction::Egress, ("10.0.0.6", "192.0.2.9"), ("10.0.0.5", "192.0.2.9")),
        (Direction::Ingress, ("192.0.2.9", "10.0.0.6"), ("192.0.2.9", "10.0.0.5")),
        (Direction::Egress, ("2001:db8::6", "2001:db8::9"), ("2001:db8::6", "2001:db8::9")),
    ] {
        let flow = flow(ENI, direction, 17, ends, (1, 2));
        let values = [Field::SrcAddr, Field::DstAddr].map(|field| of_flow(&context, &flow, field));
        assert_eq!((values[0].as_str(), values[1].as_str()), logged);
        let packet =
            [Field::PktSrcAddr, Field::PktDstAddr].map(|field| of_flow(&context, &flow, field));
        assert_eq!((packet[0].as_str(), packet[1].as_str()), ends);
    }
}

#[test]
fn traffic_path_is_set_only_within_the_vpc() {
    let path_of = |context: &Context, direction, destination| {
        of_flow(
            context,
            &flow(ENI, direction, 6, ("10.0.0.5", destination), (1, 2)),
            Field::TrafficPath,
        )
    };
    let (given, silent) = (context(Format::all()), Context::new(Format::all()));
    for (context, direction, destination, path) in [
        (&given, Direction::Egress, "10.0.200.1", "1"),
        (&given, Direction::Egress, "192.0.2.1", "-"),
        (&given, Direction::Ingress, "10.0.200.1", "-"),
        // A neighbour in the subnet is in the VPC, even if the VPC's blocks are unknown.
        (&silent, Direction::Egress, "10.0.0.77", "1"),
        (&silent, Direction::Egress, "10.0.200.1", "-"),
        (&silent, Direction::Egress, "169.254.169.254", "-"),
    ] {
        assert_eq!(
            path_of(context, direction, destination),
            path,
            "{direction:?} to {destination}"
        );
    }
}

#[test]
fn services_are_those_of_the_addresses_in_the_packets() {
    let context = context(Format::all());
    let out = flow(ENI, Direction::Egress, 6, ("10.0.0.5", "52.95.128.179"), (1, 2));
    assert_eq!(of_flow(&context, &out, Field::PktDstAwsService), "S3");
    assert_eq!(of_flow(&context, &out, Field::PktSrcAwsService), "-");
    let back = flow(ENI, Direction::Ingress, 6, ("52.95.128.179", "10.0.0.5"), (1, 2));
    assert_eq!(of_flow(&context, &back, Field::PktSrcAwsService), "S3");
}

#[test]
fn values_unknown_to_all_sources_are_the_users_defaults() {
    let lines = json_lines(&batch(), &context(Format::v2()));
    let of = |interface: &str| lines.iter().find(|line| line["interface_id"] == interface).unwrap();
    assert_eq!(of("veth1")["account_id"], "999999999999");
    assert_eq!(of("veth1")["region"], "us-east-1");
    assert_eq!(of("eni-0123456789abcdef0")["account_id"], "012345678901");
    assert_eq!(of("eni-0123456789abcdef0")["region"], "eu-west-1");
}

#[test]
fn both_directions_have_one_community_id_and_it_is_that_of_other_tools() {
    let id = |protocol, ends, ports, icmp| {
        let mut delta = flow(PLAIN, Direction::Egress, protocol, ends, ports);
        delta.counters.icmp = icmp;
        super::CommunityId::of(&delta.key, icmp)
            .map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap())
    };
    let none = crate::flow::Icmp::None;
    let echo = |kind| crate::flow::Icmp::One { kind, code: 0 };
    // Examples from the specification's repository.
    for (protocol, ends, ports, icmp, expected) in [
        (
            6,
            ("128.232.110.120", "66.35.250.204"),
            (34855, 80),
            none,
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
        ),
        (
            6,
            ("66.35.250.204", "128.232.110.120"),
            (80, 34855),
            none,
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
        ),
        (17, ("192.168.1.52", "8.8.8.8"), (54585, 53), none, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (1, ("192.168.0.89", "192.168.0.1"), (0, 0), echo(8), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (1, ("192.168.0.1", "192.168.0.89"), (0, 0), echo(0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ] {
        assert_eq!(id(protocol, ends, ports, icmp).as_deref(), Some(expected));
    }
    assert_eq!(id(1, ("192.168.0.89", "192.168.0.1"), (0, 0), crate::flow::Icmp::Mixed), None);
}

#[test]
fn parity_omits_only_traffic_that_aws_never_logs() {
    let parity = Context { aws_parity: true, ..context(Format::v2()) };
    for (protocol, ends, ports, logged) in [
        (17, ("10.0.0.5", "169.254.169.253"), (40000, 53), false),
        (17, ("169.254.169.253", "10.0.0.5"), (53, 40000), false),
        (6, ("10.0.0.5", "169.254.169.254"), (40000, 80), false),
        (17, ("10.0.0.5", "169.254.169.123"), (40000, 123), false),
        (6, ("10.0.0.5", "169.254.170.2"), (40000, 80), false),
        (6, ("169.254.172.42", "169.254.172.1"), (40000, 80), false),
        (17, ("10.0.0.5", "10.0.0.2"), (40000, 53), false),
        (1, ("10.0.0.5", "10.0.0.1"), (0, 0), false),
        (17, ("0.0.0.0", "255.255.255.255"), (68, 67), false),
        (17, ("fe80::1", "ff02::1:2"), (546, 547), false),
        (17, ("2001:db8::5", "fd00:ec2::253"), (40000, 53), false),
        (6, ("127.0.0.1", "127.0.0.1"), (40000, 80), false),
        (17, ("10.0.0.5", "8.8.8.8"), (40000, 53), true),
        (17, ("10.0.0.5", "10.0.0.3"), (40000, 53), true),
        (17, ("10.0.0.5", "10.0.1.2"), (40000, 53), true),
        (6, ("10.0.0.5", "169.254.1.1"), (40000, 80), true),
        (6, ("10.0.0.5", "169.254.176.1"), (40000, 80), true),
        (6, ("10.0.0.5", "10.0.0.77"), (68, 67), true),
        (17, ("10.0.0.5", "10.0.0.77"), (67, 67), true),
    ] {
        let mut batch = batch();
        batch.flows = Table::new();
        batch.flows.add(&flow(ENI, Direction::Egress, protocol, ends, ports));
        let written = |context: &Context| {
            let lines = json_lines(&batch, context);
            (
                lines.iter().any(|line| line["log_status"] == "OK"),
                lines.iter().filter(|line| line["log_status"] == "NODATA").count(),
            )
        };
        assert_eq!(written(&context(Format::v2())), (true, 1), "{ends:?}");
        // An interface whose flows are all excluded is silent, as in AWS.
        assert_eq!(written(&parity), (logged, if logged { 1 } else { 2 }), "{ends:?}");
    }
}

#[test]
fn nodata_can_be_left_out() {
    for aws_parity in [false, true] {
        let context = Context { no_nodata: true, aws_parity, ..context(Format::v2()) };
        assert!(json_lines(&batch(), &context).iter().all(|line| line["log_status"] != "NODATA"));
    }
}

#[test]
fn initiator_is_set_if_the_window_shows_it() {
    let context = Context::new(Format::v2());
    let lines = json_lines(&batch(), &context);
    let initiator = |protocol: u64, srcport: u64| {
        let of =
            |line: &&Map<String, Json>| line["protocol"] == protocol && line["srcport"] == srcport;
        lines.iter().find(of).unwrap().get("initiator").cloned().unwrap_or_default()
    };
    assert_eq!(initiator(6, 40000), "source");
    assert_eq!(initiator(6, 443), "destination");
    assert_eq!(initiator(58, 0), "source");
    assert_eq!((initiator(6, 1), initiator(17, 53)), (Json::Null, Json::Null));
}

#[test]
fn every_field_that_a_host_cannot_know_is_absent_and_every_other_can_be_known() {
    let context = context(Format::all());
    let batch = batch();
    for field in Field::ALL {
        let known =
            batch.records(&context).any(|(_, record)| field.value(&record) != Value::Absent);
        if field.origin() == super::Origin::Beyond {
            assert!(!known, "{}", field.name());
        } else if field.origin() != super::Origin::Subject {
            assert!(known, "{}", field.name());
        }
    }
}
