//! Precedence of flags over the configuration file.

use crate::cli::{RecordSettings, Settings};

/// Fills the settings missing in `first` from `second`.
pub(super) fn merge(first: Settings, second: Settings) -> Settings {
    Settings {
        records: merge_records(first.records, second.records),
        deliver: first.deliver.or(second.deliver),
        deliver_endpoint: first.deliver_endpoint.or(second.deliver_endpoint),
        deliver_kms_key: first.deliver_kms_key.or(second.deliver_kms_key),
        deliver_checksum: first.deliver_checksum.or(second.deliver_checksum),
        ca_bundle: first.ca_bundle.or(second.ca_bundle),
        stop_timeout: first.stop_timeout.or(second.stop_timeout),
        spool_size: first.spool_size.or(second.spool_size),
        listen: first.listen.or(second.listen),
        hook: first.hook.or(second.hook),
        xdp_mode: first.xdp_mode.or(second.xdp_mode),
        xdp_changes: first.xdp_changes.or(second.xdp_changes),
        attach: first.attach.or(second.attach),
        max_flows: first.max_flows.or(second.max_flows),
        drops: first.drops.or(second.drops),
        flow_memory: first.flow_memory.or(second.flow_memory),
        source: either(first.source, second.source),
        netns_dir: either(first.netns_dir, second.netns_dir),
        docker_socket: first.docker_socket.or(second.docker_socket),
        agent_data: first.agent_data.or(second.agent_data),
        introspection_url: first.introspection_url.or(second.introspection_url),
        tmds_url: first.tmds_url.or(second.tmds_url),
        imds_url: first.imds_url.or(second.imds_url),
        api_url: first.api_url.or(second.api_url),
        tasks_file: first.tasks_file.or(second.tasks_file),
        state_dir: first.state_dir.or(second.state_dir),
        bpffs: first.bpffs.or(second.bpffs),
        log_level: first.log_level.or(second.log_level),
    }
}

/// Fills the settings missing in `first` from `second`.
fn merge_records(first: RecordSettings, second: RecordSettings) -> RecordSettings {
    RecordSettings {
        output_dir: first.output_dir.or(second.output_dir),
        output: either(first.output, second.output),
        window: first.window.or(second.window),
        log_format: first.log_format.or(second.log_format),
        partition: first.partition.or(second.partition),
        account_id: first.account_id.or(second.account_id),
        region: first.region.or(second.region),
        flow_log_id: first.flow_log_id.or(second.flow_log_id),
        file_size: first.file_size.or(second.file_size),
        no_nodata: first.no_nodata.or(second.no_nodata),
        aws_parity: first.aws_parity.or(second.aws_parity),
        filter: either(first.filter, second.filter),
        ip_ranges: first.ip_ranges.or(second.ip_ranges),
        vpc_cidr: either(first.vpc_cidr, second.vpc_cidr),
    }
}

/// Returns `second` if `first` is empty.
fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}
