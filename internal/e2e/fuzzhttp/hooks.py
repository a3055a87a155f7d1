"""Makes most of the generated beacons name an existing site; otherwise only refusals are tested.

A value that violates the schema is not changed, and neither is every fourth other value.
"""

import schemathesis


def unchanged(value):
    return not isinstance(value, str) or not value or hash(value) % 4 == 0


def page(url):
    return url if unchanged(url) or len(url) > 1900 else "http://localhost/" + url


@schemathesis.hook
def map_body(context, body):
    def at_site(beacon):
        if not isinstance(beacon, dict):
            return beacon
        payload = beacon.get("payload")
        if isinstance(payload, dict):
            if unchanged(payload.get("website")):
                return beacon
            return {**beacon, "payload": {**payload, "website": "localhost"}}
        changed = {k: page(v) for k, v in beacon.items() if k in ("url", "u")}
        return {**beacon, **changed, "domain": "localhost"} if changed else beacon

    return [at_site(b) for b in body] if isinstance(body, list) else at_site(body)


@schemathesis.hook
def map_query(context, query):
    if not isinstance(query, dict) or unchanged(query.get("url")):
        return query
    return {**query, "url": page(query["url"]), "site": "localhost"}
