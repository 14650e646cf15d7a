"""The commands of `lingbot`, one module each: HELP, configure(parser) and run(args), with light imports at the top."""
