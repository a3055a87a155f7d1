import AxeBuilder from "@axe-core/playwright";
import { expect, type Page } from "@playwright/test";

/** The number of active visitors on the live page. */
export const visitors = (page: Page) => page.getByTestId("visitors");

/** The state of the live page's connection. */
export const connection = (page: Page) => page.getByTestId("connection");

/** Expects that axe finds no accessibility violation on the page. */
export async function expectAccessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`)).toEqual([]);
}
