"""Has most of the generated beacons name the site that there is: of one that doesn't exist only the refusal would be tried.

A value that breaks the schema stays as it is, and so does every fourth other one.
"""

import schemathesis


def keep(value):
    return not isinstance(value, str) or not value or hash(value) % 4 == 0


def page(url):
    return url if keep(url) or len(url) > 1900 else "http://localhost/" + url


@schemathesis.hook
def map_body(context, body):
    def at_site(beacon):
        if not isinstance(beacon, dict):
            return beacon
        payload = beacon.get("payload")
        if isinstance(payload, dict):
            return beacon if keep(payload.get("website")) else {**beacon, "payload": {**payload, "website": "localhost"}}
        changed = {k: page(v) for k, v in beacon.items() if k in ("url", "u")}
        return {**beacon, **changed, "domain": "localhost"} if changed else beacon

    return [at_site(b) for b in body] if isinstance(body, list) else at_site(body)


@schemathesis.hook
def map_query(context, query):
    if not isinstance(query, dict) or keep(query.get("url")):
        return query
    return {**query, "url": page(query["url"]), "site": "localhost"}
