-- vigie holds the tables, api the views that tenants may read.
CREATE DATABASE IF NOT EXISTS vigie{{on_cluster}};
CREATE DATABASE IF NOT EXISTS api{{on_cluster}};

-- One row for each migration that was applied.
CREATE TABLE IF NOT EXISTS vigie.schema_migrations{{on_cluster}}
(
    version UInt32,
    name String,
    checksum String COMMENT 'SHA-256 of the file, hexadecimal',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {{engine "ReplacingMergeTree" "applied_at"}}
ORDER BY version;
