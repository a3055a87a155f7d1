import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { LinkList } from "./share";

test("each link is in the list, with a button of its own that says which", () => {
  const html = renderToStaticMarkup(
    <LinkList
      links={[
        { id: "a", name: "Press <1>", created: "2026-11-23T12:00:00Z" },
        { id: "b", name: "Board", created: "2026-11-24T12:00:00Z" },
      ]}
      revoke={() => {}}
    />,
  );
  for (const words of ["Press &lt;1&gt;", "since 2026-11-23", "Revoke the link for Board"])
    expect(html).toContain(words);
  expect(html.match(/<button/g)).toHaveLength(2);
});

test("no links are said to be none, and unknown ones aren't", () => {
  expect(renderToStaticMarkup(<LinkList links={[]} revoke={() => {}} />)).toContain("There is no link yet");
  expect(renderToStaticMarkup(<LinkList links={null} revoke={() => {}} />)).not.toContain("no link");
});
