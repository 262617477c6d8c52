"""Hand-written kernels for processors, each beside the plain form that it must equal."""
