"""One module per verb: SUMMARY, EXAMPLE, add_arguments(parser) and run(args). Heavy imports happen inside run()."""
