"""What every room may use: errors, whole files, logs, plain records, options. Imports no room."""
