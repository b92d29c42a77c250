"""One file a command. `chatling NAME` calls `run(command, words)` of the file of that name."""
