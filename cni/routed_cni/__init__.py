"""The CNI plugin: the wire from the runtime to the agent, and the pod's own wiring."""
