"""SHA-256 of the source of each piece of ExaBGP 5.0.15 that is replaced or relied on, see `pinned`."""

# ruff: noqa: E501  a digest does not break

from __future__ import annotations

DIGESTS: dict[str, str] = {
    "application.server:run": "f396b8b4981ce442a2e092e007050d024c87cc6a4dd1126e21d951206c10bf40",
    "bgp.fsm:FSM": "93fc0f10226699629acd784840b5247363efa03d9f924c444b0d9e0c7b8d816a",
    "bgp.message.message:Message": "28b14f96b9e229d38786f8898366889388c55a1e8afebd275455a975f3018d73",
    "bgp.message.notification:Notification": "cc38eea964a40a8e82a19197eb379f227aa41be8d05d7ab545784d3e16c926f6",
    "bgp.message.notification:Notify": "e4ae83daae74dc53ecdebcee94a70d6b67e448c2d728866d369410ab0c08e609",
    "bgp.message.open.capability.capabilities:Capabilities": "3e3e30675fc2e750748210d54045e7a6a0388774f2730c02ef339f67eb1ba776",
    "bgp.message.open.capability.graceful:Graceful": "c95f27c71389ef7619e6120e7123ebb31549186191b0ec58a7bf588bc7f9da74",
    "bgp.neighbor:Neighbor": "4f9709bc2017a35a9b62dff1a8d869f0f7890144d12b2b2227dd4b86c96f911f",
    "bgp.timer:ReceiveTimer": "4d80a7b47fdb98939c3323eda299a278d9a7e6b2b0d50dec4e3e5767c415d36a",
    "bgp.timer:SendTimer": "951fa73447b0107209bfac94171260a51a62e4e804e66872846a8224aa8ed58f",
    "reactor.api.command.command:Command": "7fe9aaf4130adc9933547dfd5015489d1db14775b6f466bcca739078ab8b44b2",
    "reactor.api.processes:Processes": "866caebb5261f0958dfb209626d450b4c8e98aed544e8fc28c9b1fb6083c40d3",
    "reactor.api:API": "9d6bc07757ef9708f56812ecb88963d1f7ebbbf49387aef53e3d0901f161f3c1",
    "reactor.delay:Delay": "910a6bef7e774522bfe4d5a451f9cac699b6c94fd98fc6c754ab2c915a9954c0",
    "reactor.keepalive:KA": "71b1a0120f42abbc079cd8e072f16885188235d7e9a3ab251017cab0c4c496b5",
    "reactor.listener:Listener": "aa660caf65af7327c141d699e600aaf80d8b92f68895d6c5cb176afcfe80cf13",
    "reactor.listener:set_accepted_ttl": "87c1dc1ff2882e4b303824fdfab11d824b56e0fb5872d2f95fb2fc44150b4b66",
    "reactor.loop:Reactor": "4506da176784d0d49c453a24bb40aa975f7b12e73608f059d9b35a3dcfe6eda4",
    "reactor.network.connection:Connection": "e250b7599c1c5487799854079c4c7bf97ce40071086f63fc954a82b2ce27bb6a",
    "reactor.network.connection:Connection.close": "0d0988c133df2bc3dd10052f371a6b12027f70b43b6874a0f00af475d6ff2710",
    "reactor.network.error:NotifyError": "8a55a6e3f0f88c5ee36f5bdff79570a2bedf066d501ca677ce612ca52708e7af",
    "reactor.network.incoming:Incoming": "bf049cc8c2e5554edab0e3fbd2e716b84620af4007cf3729b73ee7078e85a5f7",
    "reactor.network.outgoing:Outgoing": "da24138785d2c7d8155662a27052929d88a28a29ae1b4ce98019c559e9792e51",
    "reactor.network.tcp:set_minimum_ttl": "bbee94b45d528f856ba55204837d9521504a5f41414ea69c58cd860e7cbb3c9a",
    "reactor.network.tcp:set_sending_ttl": "9d4e1dc8fc4aaf3e251417133b06d515d608c6ce67330d4abb2ccbfb4cd9650c",
    "reactor.peer:Peer": "9970c303e3324b749c5bccfb20a6de70ac02974d3be0a17c892e366d84ab3230",
    "reactor.protocol:Protocol": "98137c90d820478aa9e3a97685bcff23edcef4814b83d89717f44fcdace47fc9",
    "reactor.protocol:Protocol.accept": "9571cc872a2e2cd6316407515aa3362e61c5fd8e4ff74e188768eb31526c1eeb",
    "reactor.protocol:Protocol.close": "aa6ce3eab6c7e9d6c22b8d5995633e961420f12cc3f7c5d0784f34b098b3e31c",
    "reactor.protocol:Protocol.connect": "de1784de045d80567943a72bd14d82669118bd88f1f0a4d3d8bbed1e1af6bcdd",
    "reactor.protocol:Protocol.new_notification": "7134b1910504dde9b6e1ccd0954842a064eb0567e5085635abecf1236500cec8",
    "rib.outgoing:OutgoingRIB": "73e00146b7d49804274d853dde435ae45d0a70120954ae7f287ef89fedad4493",
}
