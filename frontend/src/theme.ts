import { useEffect, useState } from "react";

const STORAGE_KEY = "nowcast.theme";
const darkScheme = () => matchMedia("(prefers-color-scheme: dark)");
const systemTheme = () => (darkScheme().matches ? "dark" : "light");
const validTheme = (t: string | null) => (t === "dark" || t === "light" ? t : null);

/** The address's theme, else the stored one, else the system's. The second value toggles and stores it. */
export function useTheme(fromAddress: string | null): [string, () => void] {
  const [theme, setTheme] = useState(
    () => validTheme(fromAddress) ?? validTheme(localStorage.getItem(STORAGE_KEY)) ?? systemTheme(),
  );
  useEffect(() => {
    const scheme = darkScheme();
    const followSystem = () => {
      if (!validTheme(fromAddress) && !localStorage.getItem(STORAGE_KEY)) setTheme(systemTheme());
    };
    scheme.addEventListener("change", followSystem);
    return () => scheme.removeEventListener("change", followSystem);
  }, [fromAddress]);
  document.documentElement.dataset.theme = theme;
  const toggle = () => {
    const next = theme === "dark" ? "light" : "dark";
    localStorage.setItem(STORAGE_KEY, next);
    setTheme(next);
  };
  return [theme, toggle];
}
