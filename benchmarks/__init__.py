"""Speed and memory: python -m benchmarks.NAME prints one table, --json=PATH keeps it."""
