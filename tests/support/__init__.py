"""What several test files share; no test imports from another test file."""
