import { DIRECT } from "../../format";
import { Country } from "../../ui/country";

/** A tab of a card: the values of a dimension, counted by a metric. */
export interface BreakdownTab {
  id: string;
  name: string;
  metric: "visitors" | "events";
}

export interface BreakdownCard {
  name: string;
  tabs: [BreakdownTab, ...BreakdownTab[]];
}

const tab = (id: string, name: string): BreakdownTab => ({ id, name, metric: "visitors" });

/** The cards of the history page. A tab's id is its dimension. */
export const breakdownCards: BreakdownCard[] = [
  {
    name: "Pages",
    tabs: [tab("event:page", "Pages"), tab("visit:entry_page", "Entry"), tab("visit:exit_page", "Exit")],
  },
  {
    name: "Sources",
    tabs: [
      tab("visit:source", "Sources"),
      tab("visit:channel", "Channels"),
      tab("visit:referrer", "Referrers"),
      tab("visit:utm_source", "UTM source"),
      tab("visit:utm_medium", "Medium"),
      tab("visit:utm_campaign", "Campaign"),
    ],
  },
  {
    name: "Countries",
    tabs: [tab("visit:country", "Countries"), tab("visit:region", "Regions"), tab("visit:city", "Cities")],
  },
  {
    name: "Devices",
    tabs: [
      tab("visit:device", "Devices"),
      tab("visit:screen", "Screens"),
      tab("visit:browser", "Browsers"),
      tab("visit:os", "Systems"),
    ],
  },
  { name: "Events", tabs: [{ id: "event:name", name: "Events", metric: "events" }] },
];

const historyDimensionNames: Record<string, string> = {
  "event:page": "Page",
  "visit:entry_page": "Entry page",
  "visit:exit_page": "Exit page",
  "visit:source": "Source",
  "visit:channel": "Channel",
  "visit:country": "Country",
  "visit:region": "Region",
  "visit:city": "City",
  "visit:screen": "Screen",
  "visit:device": "Device",
  "visit:browser": "Browser",
  "visit:os": "System",
  "event:name": "Event",
  "visit:referrer": "Referrer",
};

export function dimensionName(dimension: string): string {
  return historyDimensionNames[dimension] ?? dimension.replace(/^\w+:/, "").replaceAll("_", " ");
}

/** A dimension's value as the viewer reads it. */
export function DimensionValue({ dimension, value }: { dimension: string; value: string }) {
  if (dimension === "visit:country") return <Country code={value} />;
  return value === DIRECT ? "Direct" : value || "Unknown";
}
