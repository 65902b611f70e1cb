"""Price operators on a device that was not measured, from tables of related devices (donors).

`distance` says how far two devices are apart, `donor_tables` scales a donor's times to the ceilings of the device, and
`calibrated` is the cost model that chooses and weighs the donors.
"""
