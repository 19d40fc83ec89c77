"""One row slice: activation bank, feed, PE pairs, lane and the row's state; and the stack of all rows."""
