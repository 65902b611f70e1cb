"""The page of a fleet: its answers at the top (`fleet_brief`) and its sections (`page_of_fleet`)."""
