"""Facts → EmcEvent, the guide's rules, the wire form, when an event is due; and the simulator."""
