"""One file per subcommand group; heavy imports stay inside the functions, so that --help is instant."""
