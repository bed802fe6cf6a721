// What is said of the stores of a placement group.

import { valueWord, word } from "./i18n";
import type { PlacementStore } from "./types";

/** `3, 5 (filling), 9 (away)`: of each store what is not as it should be. */
export function placementText(stores: PlacementStore[]): string {
  return stores
    .map((one) => {
      const said = [
        ...(one.role === "filling" ? [valueWord("placement", "filling")] : []),
        ...(one.standing !== "present" ? [valueWord("standing", one.standing)] : []),
        ...(one.leaving ? [word("placementLeaving")] : []),
      ];
      return said.length > 0 ? `${one.store} (${said.join(", ")})` : String(one.store);
    })
    .join(", ");
}
