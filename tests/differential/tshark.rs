//! Runs tshark on frames and parses its output.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{packets::Input, pcap};

/// The requested fields.
const FIELDS: [&str; 47] = [
    "frame.protocols",
    "eth.type",
    "vlan.etype",
    "ip.version",
    "ip.hdr_len",
    "ip.len",
    "ip.proto",
    "ip.src",
    "ip.dst",
    "ip.cur_rt",
    "ip.frag_offset",
    "ip.bogus_ip_version",
    "ip.bogus_header_length",
    "ip.bogus_ip_length",
    "ipv6.plen",
    "ipv6.nxt",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.bogus_ipv6_version",
    "ipv6.plen_exceeds_framing",
    "ipv6.hopopts.nxt",
    "ipv6.routing.nxt",
    "ipv6.dstopts.nxt",
    "ipv6.fraghdr.nxt",
    "ipv6.fraghdr.offset",
    "ah.next_header",
    "mip6.proto",
    "hip.proto",
    "shim6.nxt",
    "shim6.p",
    "_ws.malformed",
    "_ws.unreassembled",
    "_ws.short",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.hdr_len",
    "tcp.flags",
    "udp.srcport",
    "udp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
];

/// No reassembly across packets, and no field that combines headers.
const PREFERENCES: [&str; 7] = [
    "ip.defragment:false",
    "ipv6.defragment:false",
    "tcp.desegment_tcp_streams:false",
    "tcp.analyze_sequence_numbers:false",
    "sctp.reassembly:false",
    "esp.do_esp_sequence_analysis:false",
    // Linux accepts 0x8100 and 0x88a8 as tags, and no third EtherType.
    "vlan.qinq_ethertype:0x88a8",
];

/// tshark's dissection of one frame.
#[derive(Clone, Debug)]
pub(crate) struct Dissection {
    /// The protocols found, from outside to inside.
    pub(crate) layers: Vec<String>,
    fields: HashMap<&'static str, Vec<String>>,
}

impl Dissection {
    /// All occurrences of a field, one for each header that has it.
    pub(crate) fn all(&self, field: &'static str) -> &[String] {
        assert!(FIELDS.contains(&field), "{field} is not asked for");
        self.fields.get(field).map_or(&[], Vec::as_slice)
    }

    /// The field in the outermost header that has it.
    pub(crate) fn first(&self, field: &'static str) -> Option<&str> {
        self.all(field).first().map(String::as_str)
    }

    /// The same, parsed as a number.
    pub(crate) fn number(&self, field: &'static str) -> Option<u32> {
        self.first(field).map(number)
    }
}

/// Parses a number, which tshark may write in hexadecimal.
pub(crate) fn number(text: &str) -> u32 {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("tshark gives a number as {text}"))
}

/// Dissects these frames.
pub(crate) fn dissect<'a>(
    program: &Path,
    frames: impl Iterator<Item = &'a Input>,
) -> Result<Vec<Dissection>> {
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("frames.pcap");
    let mut file = BufWriter::new(File::create(&capture)?);
    pcap::write(&mut file, frames)?;
    file.flush()?;

    let mut tshark = Command::new(program);
    // No user settings and no name resolution.
    tshark.env("XDG_CONFIG_HOME", folder.path()).env("HOME", folder.path()).arg("-n");
    tshark.arg("-r").arg(&capture).args([
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "occurrence=a",
    ]);
    tshark.args(PREFERENCES.iter().flat_map(|preference| ["-o", preference]));
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let output =
        tshark.output().with_context(|| format!("{} could not be started", program.display()))?;
    ensure!(output.status.success(), "tshark failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("tshark printed no UTF-8")?;
    Ok(text.lines().map(dissection).collect())
}

fn dissection(line: &str) -> Dissection {
    let mut fields: HashMap<&str, Vec<String>> = HashMap::new();
    for (field, value) in FIELDS.into_iter().zip(line.split('\t')) {
        if !value.is_empty() {
            fields.insert(field, value.split(',').map(str::to_owned).collect());
        }
    }
    let layers = fields.remove("frame.protocols").unwrap_or_default();
    let layers = layers.iter().flat_map(|layers| layers.split(':')).map(str::to_owned).collect();
    Dissection { layers, fields }
}
