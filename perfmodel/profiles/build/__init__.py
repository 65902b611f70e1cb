"""From published operator measurements to the tables that are shipped."""
