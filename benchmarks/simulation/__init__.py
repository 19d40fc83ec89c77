"""The simulators: speed of golden machine, cycle model and RTL, and their timelines in other tools."""
