import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { ShareLinkList } from "./share";

test("each link is in the list, with a button that names it", () => {
  const html = renderToStaticMarkup(
    <ShareLinkList
      links={[
        { id: "a", name: "Press <1>", created: "2026-11-23T12:00:00Z" },
        { id: "b", name: "Board", created: "2026-11-24T12:00:00Z" },
      ]}
      onRevoke={() => {}}
    />,
  );
  for (const words of ["Press &lt;1&gt;", "since 2026-11-23", "Revoke the link for Board"])
    expect(html).toContain(words);
  expect(html.match(/<button/g)).toHaveLength(2);
});

test("an empty list says so, a list that loads doesn't", () => {
  expect(renderToStaticMarkup(<ShareLinkList links={[]} onRevoke={() => {}} />)).toContain(
    "There is no link yet",
  );
  expect(renderToStaticMarkup(<ShareLinkList links={null} onRevoke={() => {}} />)).not.toContain("no link");
});
