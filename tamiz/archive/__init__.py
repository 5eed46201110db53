"""The archive: decisions and logged values as Parquet, by day and partition, beyond the retention of their topics."""
