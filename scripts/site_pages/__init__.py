"""Pages of the documentation site that are made from the code at build time; none is committed."""
