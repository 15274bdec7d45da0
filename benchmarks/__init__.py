"""What is measured, beside peers where there are any; docs/measurements holds the figures."""
