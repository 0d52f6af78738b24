"""From the words of the command line to an exit code: what was asked, what is written where."""
