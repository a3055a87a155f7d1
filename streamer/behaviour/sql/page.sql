{{- /*
The details of a page. Each visit has its part of all lists:
0 the sums, 1 its source, 2 its country, 3 pages before, 4 entries, 5 pages after, 6 exits, 7 custom events.
*/ -}}
WITH
    visits AS
    (
        SELECT
            day,
            who,
            any({{.Source}}) AS came_from,
            any({{.Country}}) AS came_out_of,
            any(bounced) AS bounce,
            countIf(kind = 'pageview' AND {{.Page}}) AS views,
            sumIf(toUInt64(engaged_ms), {{.Page}}) AS engaged,
            maxIf(scroll_depth, {{.Page}}) AS scrolled,
            groupArrayIf(toString(name), kind = 'custom' AND {{.Page}}) AS names,
            {{template "pages" .}} AS pages,
            pages[1].2 AS entered,
            pages[-1].2 AS exited,
            {{template "neighbours" .Before}} AS before,
            {{template "neighbours" .After}} AS after
        FROM ({{.From}})
        GROUP BY day, who, visit
        HAVING views > 0{{template "passing" .}}
    )
SELECT
    part.1 AS list,
    part.2 AS key,
    part.3 AS value,
    sum(part.4) AS times,
    count() AS visits,
    if(list = 0, uniqExactIf((day, who), list = 0), 0) AS visitors,
    countIf(entered) AS entries,
    countIf(exited) AS exits,
    countIf(entered AND bounce) AS bounces,
    sumIf(toUInt64(engaged), engaged > 0) AS engaged_ms,
    countIf(engaged > 0) AS engaged_visits,
    sumIf(toUInt64(scrolled), scrolled > 0) AS scroll_depth,
    countIf(scrolled > 0) AS scrolled_visits,
    sum(length(after)) AS walks
FROM visits
ARRAY JOIN arrayConcat(
    [(toUInt8(0), toUInt64(0), '', toUInt64(views)), (toUInt8(1), toUInt64(0), came_from, toUInt64(1)), (toUInt8(2), toUInt64(0), came_out_of, toUInt64(1))],
    arrayMap(x -> (toUInt8(3 + x.1), x.2, '', toUInt64(countEqual(before, x))), arrayDistinct(before)),
    arrayMap(x -> (toUInt8(5 + x.1), x.2, '', toUInt64(countEqual(after, x))), arrayDistinct(after)),
    arrayMap(x -> (toUInt8(7), toUInt64(0), x, toUInt64(countEqual(names, x))), arrayDistinct(names))) AS part
GROUP BY list, key, value
ORDER BY list, times DESC, key, value
LIMIT {{.Limit}} BY list
