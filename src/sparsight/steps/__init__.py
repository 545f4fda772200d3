"""One module per component: parse arguments, call the library, write outputs."""
