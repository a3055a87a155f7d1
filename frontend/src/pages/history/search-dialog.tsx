import { useState } from "react";
import { type QueryRequest, useQuery } from "../../api";
import type { Route } from "../../route";
import { BarList } from "../../ui/bar-list";
import { Dialog } from "../../ui/dialog";
import { Notice } from "../../ui/notice";
import { breakdownRows } from "./breakdown-rows";
import type { BreakdownTab } from "./dimensions";
import { topQuery, withSearch } from "./queries";

const FIRST_ROWS = 50;
const MORE_ROWS = 100;

interface Props {
  tab: BreakdownTab;
  route: Route;
  base: QueryRequest;
  onClose: () => void;
}

/** All values of a dimension, with a search. */
export function SearchDialog({ tab, route, base, onClose }: Props) {
  const [text, setText] = useState("");
  const [limit, setLimit] = useState(FIRST_ROWS);
  const { data, error } = useQuery(topQuery(withSearch(base, tab.id, text), tab.id, [tab.metric], limit));
  const rows = breakdownRows(data?.results ?? [], tab.id, route);
  return (
    <Dialog title={tab.name} onClose={onClose}>
      <div className="flex flex-col gap-3">
        <input
          className="field"
          type="search"
          aria-label={`Search ${tab.name}`}
          placeholder="Search"
          value={text}
          onChange={(e) => setText(e.target.value)}
        />
        {error && <Notice kind="error">{error.message}</Notice>}
        <div className="min-h-96">
          <BarList rows={rows} empty={data ? "No matches." : "Loading…"} />
        </div>
        {rows.length === limit && (
          <button type="button" className="button" onClick={() => setLimit(limit + MORE_ROWS)}>
            Show more
          </button>
        )}
      </div>
    </Dialog>
  );
}
