"""The explanation dataset on disk: shards, rejected rows, manifest, lock."""
