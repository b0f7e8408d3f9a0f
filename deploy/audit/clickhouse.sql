-- Audit records of Threads Gateway in ClickHouse, 24.3 or newer.
--
-- A collector inserts two columns, the path of the file and the line as it stands there. Everything else is computed
-- from them here, so that a row never says anything else than its line, a collector needs to know nothing about
-- records, and a fact that a later release adds is there already, in `raw`. The facts: gateway/audit/schema.json.
--
-- A record is known by replica, boot and seq. Who inserts one twice, because its outcome was unknown or because it fills
-- a gap, does no harm: FINAL shows it once. A line that was changed in between stands beside the first.

CREATE TABLE IF NOT EXISTS audit_records
(
    path String CODEC(ZSTD(3)),
    raw String CODEC(ZSTD(3)),

    file LowCardinality(String) MATERIALIZED extract(path, '([^/]+\\.jsonl)(?:\\.zst)?$'),
    replica LowCardinality(String) MATERIALIZED extract(file, '^(.+)-\\d{8}T\\d{6}Z[0-9a-f]{6}-\\d{4,}\\.jsonl$'),
    boot LowCardinality(String) MATERIALIZED extract(file, '-(\\d{8}T\\d{6}Z[0-9a-f]{6})-\\d{4,}\\.jsonl$'),

    seq UInt64 MATERIALIZED JSONExtractUInt(raw, 'seq'),
    time DateTime64(6, 'UTC') MATERIALIZED parseDateTime64BestEffortOrZero(JSONExtractString(raw, 'time'), 6, 'UTC'),
    kind LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'kind'),
    prev String MATERIALIZED JSONExtractString(raw, 'prev') CODEC(ZSTD(1)),
    h String MATERIALIZED JSONExtractString(raw, 'h') CODEC(ZSTD(1)),

    request_id String MATERIALIZED JSONExtractString(raw, 'request_id'),
    client_request_id String MATERIALIZED JSONExtractString(raw, 'client_request_id'),
    generation_id String MATERIALIZED JSONExtractString(raw, 'generation_id'),
    tenant LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'tenant'),
    tenant_id LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'tenant_id'),
    tenant_key LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'tenant_key'),
    client String MATERIALIZED JSONExtractString(raw, 'client'),
    method LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'method'),
    request_path String MATERIALIZED JSONExtractString(raw, 'path'),
    operation LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'operation'),
    provider LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'provider'),
    vendor LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'vendor'),
    account LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'account'),
    model LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'model'),
    upstream_model LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'upstream_model'),
    level LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'level'),

    public_ids Array(String) MATERIALIZED JSONExtract(raw, 'public_ids', 'Array(String)'),
    upstream_ids Array(String) MATERIALIZED JSONExtract(raw, 'upstream_ids', 'Array(String)'),
    thread String MATERIALIZED JSONExtractString(raw, 'thread'),
    run String MATERIALIZED JSONExtractString(raw, 'run'),
    public_id String MATERIALIZED JSONExtractString(raw, 'public_id'),
    upstream_id String MATERIALIZED JSONExtractString(raw, 'upstream_id'),
    run_status LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'run_status'),

    status Nullable(UInt16) MATERIALIZED JSONExtract(raw, 'status', 'Nullable(UInt16)'),
    outcome LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'outcome'),
    finish_reason LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'finish_reason'),
    error_source LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'error_source'),
    error_code LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'error_code'),
    cache LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'cache'),
    idempotency LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'idempotency'),
    attempts String MATERIALIZED JSONExtractRaw(raw, 'attempts') CODEC(ZSTD(3)),
    attempts_total Nullable(UInt32) MATERIALIZED JSONExtract(raw, 'attempts_total', 'Nullable(UInt32)'),
    takeovers Nullable(UInt32) MATERIALIZED JSONExtract(raw, 'takeovers', 'Nullable(UInt32)'),
    bytes_in Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'bytes_in', 'Nullable(UInt64)'),
    bytes_out Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'bytes_out', 'Nullable(UInt64)'),
    first_byte_s Nullable(Float64) MATERIALIZED JSONExtract(raw, 'first_byte_s', 'Nullable(Float64)'),
    duration_s Nullable(Float64) MATERIALIZED JSONExtract(raw, 'duration_s', 'Nullable(Float64)'),
    events Nullable(UInt32) MATERIALIZED JSONExtract(raw, 'events', 'Nullable(UInt32)'),
    text_length Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'text_length', 'Nullable(UInt64)'),
    prompt_tokens Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'usage', 'prompt_tokens', 'Nullable(UInt64)'),
    completion_tokens Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'usage', 'completion_tokens', 'Nullable(UInt64)'),
    total_tokens Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'usage', 'total_tokens', 'Nullable(UInt64)'),
    usage String MATERIALIZED JSONExtractRaw(raw, 'usage'),
    content String MATERIALIZED JSONExtractRaw(raw, 'content') CODEC(ZSTD(3)),

    who String MATERIALIZED JSONExtractString(raw, 'who'),
    act LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'act'),
    what LowCardinality(String) MATERIALIZED JSONExtractString(raw, 'what'),
    name String MATERIALIZED JSONExtractString(raw, 'name'),
    reason String MATERIALIZED JSONExtractString(raw, 'reason'),
    acted_s Nullable(UInt64) MATERIALIZED JSONExtract(raw, 'acted_s', 'Nullable(UInt64)'),

    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_client_request client_request_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_thread thread TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_run run TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_public_ids public_ids TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_upstream_ids upstream_ids TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (tenant, time, replica, boot, seq, sipHash64(raw))
TTL toDateTime(time) + INTERVAL 400 DAY DELETE WHERE h != '';

-- What is missing in the copy: boots whose numbers have holes, or whose beginning is not there though it is too young to
-- have been deleted; and lines that are no records (torn by a crash), which stay until somebody removes them.
CREATE VIEW IF NOT EXISTS audit_gaps AS
SELECT
    replica,
    boot,
    minIf(seq, h != '') AS first,
    max(seq) AS last,
    last - if(minIf(time, h != '') > now() - INTERVAL 399 DAY, 0, first - 1) - uniqExactIf(seq, h != '') AS missing,
    countIf(h = '') AS broken
FROM audit_records
GROUP BY replica, boot
HAVING missing > 0 OR broken > 0;

-- To fill a gap, from a machine that has the files, compressed or not (clickhouse-local reads both):
--   clickhouse-local --query "SELECT _path AS path, line AS raw FROM file('/var/lib/threads-gateway/audit/*.{jsonl,jsonl.zst}',
--     LineAsString) FORMAT JSONEachRow" | clickhouse-client --query "INSERT INTO audit_records FORMAT JSONEachRow"
--
-- To prove the copy, one file at a time, as in the trail's folder; then `threads-gateway audit verify --dir copy`:
--   clickhouse-client --query "SELECT raw FROM audit_records FINAL WHERE file = 'web-….jsonl' AND h != '' ORDER BY seq
--     FORMAT TSVRaw" > copy/web-….jsonl
