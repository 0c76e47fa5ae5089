"""The three phases of a run: plan, generate a shard, finalize."""
