"""Where routes by nexthop objects lead, for witnesses that ask `ip`: the kernel itself tells an id only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def leading(routes: Iterable[Json], nexthops: Iterable[Json]) -> list[Json]:
    """What `ip -j route` says of `routes`, with the next hops of those that have an id, as if they were their own.

    An object that has gone meanwhile leads nowhere.
    """
    objects = {each["id"]: each for each in nexthops}
    return [{**route, **_leads(route["nhid"], objects)} if "nhid" in route else route for route in routes]


def _leads(number: int, objects: dict[int, Json]) -> Json:
    members = objects.get(number, {}).get("group", [{"id": number}])
    hops = [objects[each["id"]] for each in members if each["id"] in objects]
    ways = [{key: hop[key] for key in ("gateway", "dev", "flags") if key in hop} for hop in hops]
    return ways[0] if len(ways) == 1 else {"nexthops": [{**way, "weight": 1} for way in ways]}
