/** The application in the browser. */
import { render } from "preact";
import { App } from "./app.tsx";
import { listenForLinks } from "./router.ts";

const root = document.getElementById("app");
if (!root) throw new Error("the page has no place for the application");
listenForLinks();
root.replaceChildren();
render(<App />, root);
