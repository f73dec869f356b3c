import "./app.css";

import { mount } from "svelte";

import App from "./App.svelte";
import { connect } from "./backend/connect";
import { app } from "./state/app.svelte";
import { watchKeyboard } from "./state/keyboard";
import { prefs } from "./state/prefs.svelte";

prefs.apply();
watchKeyboard();
app.connect(await connect(location.search));

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has no #app");
mount(App, { target });
