import { countryName, isCountryCode } from "../format";

/** A country by code and name. A flag emoji would be a box or two letters where the fonts lack it. */
export function Country({ code }: { code: string }) {
  return (
    <>
      <span aria-hidden className="mr-2 inline-block w-5 text-xs text-soft">
        {isCountryCode(code) ? code : "–"}
      </span>
      {countryName(code)}
    </>
  );
}
