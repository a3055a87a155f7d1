/** Opens the dashboard in jsdom, with a fake API and fake timers. */
import { Blob as NodeBlob } from "node:buffer";
import { act, cleanup, configure, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, vi } from "vitest";
import { App } from "../app";
import { FakeApi } from "./fake-api";
import { plots } from "./fake-uplot";

export const SITE = "x.example";
/** The moment at which every test begins: a Monday afternoon. */
export const NOW = Date.parse("2026-11-23T14:30:00Z");

export const site = (domain: string, more: object = {}) => ({
  domain,
  timezone: "UTC",
  public: true,
  created: "2026-01-01T00:00:00Z",
  ...more,
});

/** An API with one site, a viewer without a session, and empty results. */
function fakeApi(): FakeApi {
  return new FakeApi()
    .on("GET /api/v1/session", () => ({ authenticated: false, admin: false }))
    .on("GET /api/v1/sites", () => ({ sites: [site(SITE)] }))
    .on("POST /api/v2/query", () => ({ results: [], meta: {}, query: {} }));
}

// Without it every query by role computes the style of every element, which takes most of a test's time.
configure({ defaultHidden: true });

/** Adds what jsdom lacks. */
function setUpBrowser(): void {
  vi.useFakeTimers({ now: NOW });
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.stubGlobal("matchMedia", (query: string) =>
    Object.assign(new EventTarget(), { matches: query.includes("reduced-motion") }),
  );
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe() {}
      disconnect() {}
    },
  );
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
  vi.spyOn(window, "scrollTo").mockImplementation(() => {});
  Object.assign(HTMLDialogElement.prototype, {
    showModal(this: HTMLDialogElement) {
      this.open = true;
    },
    close(this: HTMLDialogElement) {
      this.open = false;
      this.dispatchEvent(new Event("close"));
    },
  });
}

/** Collects the files that the dashboard lets the browser save. */
export function captureDownloads(): { name: string; blob: Blob }[] {
  const files: { name: string; blob: Blob }[] = [];
  const blobs: Blob[] = [];
  vi.stubGlobal("Blob", NodeBlob); // jsdom's has no text()
  Object.assign(URL, {
    createObjectURL: (blob: Blob) => `blob:${blobs.push(blob)}`,
    revokeObjectURL: () => {},
  });
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    files.push({ name: this.download, blob: blobs.at(-1) as Blob });
  });
  return files;
}

/** Removes the dashboard, and undoes setUpBrowser. */
function tearDownBrowser(): void {
  cleanup();
  plots.length = 0;
  localStorage.clear();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  vi.useRealTimers();
}

/** Gives each test of the file a browser and an API of its own. */
export function setUpEachTest(prepare: (api: FakeApi) => void): void {
  beforeEach(() => {
    setUpBrowser();
    prepare(fakeApi());
  });
  afterEach(tearDownBrowser);
}

/** Lets time pass and renders. Without an argument it is enough for responses and an animation frame. */
export const pass = (ms = 20) => act(() => vi.advanceTimersByTimeAsync(ms));

export async function open(address: string): Promise<void> {
  history.replaceState(null, "", address);
  render(<App />);
  await pass();
}

export const address = () => location.pathname + location.search;

export async function click(role: string, name: string | RegExp): Promise<void> {
  fireEvent.click(screen.getByRole(role, { name }));
  await pass();
}

export async function change(label: string, value: string): Promise<void> {
  fireEvent.change(screen.getByLabelText(label), { target: { value } });
  await pass();
}

export async function press(key: string, target: Element = document.body, more: object = {}): Promise<void> {
  fireEvent.keyDown(target, { key, ...more });
  await pass();
}
