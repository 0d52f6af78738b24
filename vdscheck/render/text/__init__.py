"""The report for people, on a terminal or on paper."""
