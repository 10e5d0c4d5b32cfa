"""Where a model lives: strategy, machines, precision."""
