"""What the commands share; nothing here is typed by a person."""
