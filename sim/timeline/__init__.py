"""Timelines of one image: what every unit does when, from the cycle model and from RTL, for people to look at in Perfetto."""
