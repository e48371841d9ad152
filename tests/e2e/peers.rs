//! Failures known from other flow counting programs, and the scenarios that show that observer does
//! not have them.

use std::{collections::BTreeSet, env, process::Command};

use anyhow::{Context as _, Result, ensure};

/// A failure of another program.
struct Failure {
    id: &'static str,
    what: &'static str,
    /// The tests that would detect it.
    scenarios: &'static [&'static str],
}

const fn failure(
    id: &'static str,
    what: &'static str,
    scenarios: &'static [&'static str],
) -> Failure {
    Failure { id, what, scenarios }
}

/// L: losses. D: double or wrong counts.
const FAILURES: [Failure; 18] = [
    failure(
        "L1",
        "a full map evicts flows silently",
        &["pressure::a_map_that_is_full_evicts_no_flow_silently"],
    ),
    failure(
        "L2",
        "an LRU map evicts in batches",
        &["pressure::no_map_of_the_daemon_is_an_lru_that_evicts_by_itself"],
    ),
    failure(
        "L3",
        "a map that is busy is taken for one that is full",
        &["pressure::a_storm_of_new_flows_on_all_cpus_is_no_reason_to_evict_or_to_record_twice"],
    ),
    failure(
        "L4",
        "the drain overwrites what the kernel counts meanwhile",
        &[
            "bulk::ten_gigabytes_over_all_cpus_while_the_drain_runs_are_exact_and_no_counter_wraps",
            "bulk::two_gigabytes_without_offloads_over_all_cpus_while_the_drain_runs_are_exact",
        ],
    ),
    failure(
        "L5",
        "two CPUs overwrite each other's counts",
        &["flows::one_flow_from_several_cpus_is_one_flow"],
    ),
    failure(
        "L6",
        "a flow is told before its first packet is counted",
        &["flows::a_flow_of_one_packet_is_recorded_with_one_packet"],
    ),
    failure(
        "L7",
        "a flow that once found no room is hidden for good",
        &["pressure::a_stalled_reader_recovers_within_two_windows_and_hides_no_flow"],
    ),
    failure(
        "L8",
        "what a full ring loses is not counted",
        &["pressure::what_no_longer_fits_while_the_daemon_stands_still_is_lost_by_number"],
    ),
    failure(
        "L9",
        "each packet is an event",
        &["pressure::costs::packets_of_known_flows_raise_no_event"],
    ),
    failure(
        "L14",
        "counters of 16 or 32 bits wrap",
        &["bulk::ten_gigabytes_over_all_cpus_while_the_drain_runs_are_exact_and_no_counter_wraps"],
    ),
    failure(
        "L18",
        "the counter of losses loses",
        &["pressure::the_loss_counter_itself_loses_nothing_while_it_is_scraped"],
    ),
    failure(
        "D1",
        "a packet is counted on each device that it passes",
        &[
            "bridge::a_packet_over_a_bridge_is_counted_once_for_each_eni_that_it_passes",
            "names::a_link_into_a_task_is_not_counted_a_second_time_on_the_host",
        ],
    ),
    failure(
        "D3",
        "interfaces of one index in several namespaces are one",
        &["apart::twenty_interfaces_with_one_name_index_and_5_tuple_stay_apart"],
    ),
    failure(
        "D5",
        "a super-packet is one packet",
        &[
            "bulk::packets_of_a_bulk_transfer_equal_tcp_segments",
            "bulk::packets_of_a_bulk_transfer_over_ipv6_equal_tcp_segments",
            "bulk::packets_of_a_bulk_transfer_without_offloads_equal_tcp_segments",
            "bulk::packets_segmented_behind_the_hook_equal_tcp_segments",
            "bulk::packets_merged_before_the_hook_equal_tcp_segments",
            "gso::segments_of_udp_messages_are_counted_one_by_one",
        ],
    ),
    failure(
        "D6",
        "the direction is guessed from addresses, ports or who began",
        &[
            "flows::a_connection_that_is_older_than_the_daemon_is_told_by_where_it_crosses",
            "flows::neither_addresses_nor_ports_nor_flags_say_which_way_a_packet_went",
        ],
    ),
    failure(
        "D7",
        "options, extension headers and fragments give ports that are none",
        &[
            "frames::every_frame_is_recorded_or_counted_by_reason",
            "frames::a_frame_whose_headers_are_not_linear_says_the_same",
            "flows::fragments_of_a_datagram_are_of_its_flow",
        ],
    ),
    failure(
        "D8",
        "a flow has several records in a window, or records that overlap",
        &["windows::a_flow_is_one_record_in_each_window_and_they_add_up"],
    ),
    failure(
        "D9",
        "TCP flags are missing from the sum",
        &[
            "flows::every_combination_of_tcp_flags_is_kept",
            "flows::tcp_flags_of_a_short_connection_tell_client_from_server",
        ],
    ),
];

/// All tests of this program.
fn tests() -> Result<BTreeSet<String>> {
    let output =
        Command::new(env::current_exe()?).args(["--list", "--format", "terse"]).output()?;
    ensure!(output.status.success(), "--list: {}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout)?;
    list.lines()
        .map(|line| {
            Ok(line
                .strip_suffix(": test")
                .with_context(|| format!("{line:?} is no test"))?
                .to_owned())
        })
        .collect()
}

#[test]
fn every_failure_of_others_has_a_scenario_here() -> Result<()> {
    let tests = tests()?;
    let ids: BTreeSet<&str> = FAILURES.iter().map(|failure| failure.id).collect();
    assert_eq!(ids.len(), FAILURES.len(), "an id is there twice");
    for Failure { id, what, scenarios } in FAILURES {
        assert!(!scenarios.is_empty(), "{id}: no scenario shows that not {what}");
        for scenario in scenarios {
            assert!(tests.contains(*scenario), "{id}, {what}: there is no test {scenario}");
        }
    }
    Ok(())
}
