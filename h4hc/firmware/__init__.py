"""What firmware reads: the schema of schedule.json (package data)."""
