"""What a fit costs, measured on the machine at hand; none of it is a test."""
