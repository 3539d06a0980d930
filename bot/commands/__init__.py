"""The commands: one table (`table`), one parser (`parse`), one door (`run`), and a file for each topic."""
