"""The node's firewall: who may send us tunnelled packets, what a pod may send, whose packets are masqueraded."""
