<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de_DE">
<context>
    <name>Actions</name>
    <message>
        <location filename="../common/actions.py" line="62" />
        <source>Fused</source>
        <translation>Fusioniert</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="63" />
        <source>Visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="64" />
        <source>Thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="65" />
        <source>Blend</source>
        <translation>Überblendung</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="66" />
        <source>Picture in picture</source>
        <translation>Bild im Bild</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="67" />
        <source>Side by side</source>
        <translation>Nebeneinander</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="68" />
        <source>Quad</source>
        <translation>Vierfach</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="69" />
        <source>Wipe</source>
        <translation>Schieber</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="70" />
        <source>Edges</source>
        <translation>Kanten</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="73" />
        <source>Views</source>
        <translation>Ansichten</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="74" />
        <source>Picture</source>
        <translation>Bild</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="75" />
        <source>Rig and recording</source>
        <translation>Anlage und Aufnahme</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="77" />
        <source>Playback</source>
        <translation>Wiedergabe</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="77" />
        <source>Window</source>
        <translation>Fenster</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="92" />
        <source>Swap pictures (PiP, wipe)</source>
        <translation>Bilder tauschen (Bild im Bild, Schieber)</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="93" />
        <source>Next view</source>
        <translation>Nächste Ansicht</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="95" />
        <source>What is thermal here? (hold)</source>
        <translation>Was kommt hier vom Wärmebild? (halten)</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="97" />
        <source>Show heat</source>
        <translation>Wärme hervorheben</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="98" />
        <source>Freeze picture</source>
        <translation>Bild einfrieren</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="101" />
        <source>Figures over the picture</source>
        <translation>Zahlen über dem Bild</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="108" />
        <source>Measure spot or box</source>
        <translation>Punkt oder Rechteck messen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="110" />
        <source>Remove the chosen mark</source>
        <translation>Gewählte Messstelle entfernen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="112" />
        <source>Next palette</source>
        <translation>Nächste Palette</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="113" />
        <source>White-hot / black-hot</source>
        <translation>Heiß ist weiß / schwarz</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="114" />
        <source>Less thermal in the blend</source>
        <translation>Weniger Wärmebild in der Überblendung</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="115" />
        <source>More thermal in the blend</source>
        <translation>Mehr Wärmebild in der Überblendung</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="116" />
        <source>Zoom in</source>
        <translation>Vergrößern</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="117" />
        <source>Zoom out</source>
        <translation>Verkleinern</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="118" />
        <source>Fit</source>
        <translation>Einpassen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="119" />
        <source>1:1</source>
        <translation>1:1</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="122" />
        <source>Isotherm: off, above, below, between</source>
        <translation>Isotherme: aus, über, unter, zwischen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="127" />
        <source>Compare A and B</source>
        <translation>A und B vergleichen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="128" />
        <source>Start / stop the rig</source>
        <translation>Anlage starten / anhalten</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="129" />
        <source>Record</source>
        <translation>Aufnehmen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="130" />
        <source>Mark event</source>
        <translation>Ereignis markieren</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="131" />
        <source>Snapshot</source>
        <translation>Schnappschuss</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="132" />
        <source>Hold the colours / let them follow</source>
        <translation>Farben festhalten / folgen lassen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="133" />
        <source>Next AGC mode</source>
        <translation>Nächster AGC-Modus</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="135" />
        <source>Roll back the model</source>
        <translation>Modell zurücknehmen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="137" />
        <source>Calibrate the rig</source>
        <translation>Anlage kalibrieren</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="138" />
        <source>Timing plot</source>
        <translation>Zeitverlauf</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="139" />
        <source>Play / pause</source>
        <translation>Abspielen / Pause</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="140" />
        <source>Step back</source>
        <translation>Schritt zurück</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="141" />
        <source>Step forward</source>
        <translation>Schritt vor</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="142" />
        <source>Loop</source>
        <translation>Wiederholen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="143" />
        <source>Slower</source>
        <translation>Langsamer</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="144" />
        <source>Faster</source>
        <translation>Schneller</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="145" />
        <source>Range begins here</source>
        <translation>Bereich beginnt hier</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="146" />
        <source>Range ends here</source>
        <translation>Bereich endet hier</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="147" />
        <source>Temperature over time</source>
        <translation>Temperatur über der Zeit</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="148" />
        <source>Render the range to a file</source>
        <translation>Bereich als Datei exportieren</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="150" />
        <source>Open configuration or recording</source>
        <translation>Konfiguration oder Aufnahme öffnen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="152" />
        <source>Start page</source>
        <translation>Startseite</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="153" />
        <source>Expert view</source>
        <translation>Expertenansicht</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="154" />
        <source>Control panel</source>
        <translation>Bedienfeld</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="155" />
        <source>Full screen</source>
        <translation>Vollbild</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="156" />
        <source>Log</source>
        <translation>Protokoll</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="157" />
        <source>Settings</source>
        <translation>Einstellungen</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="158" />
        <source>Help</source>
        <translation>Hilfe</translation>
    </message>
    <message>
        <location filename="../common/actions.py" line="159" />
        <source>Quit</source>
        <translation>Beenden</translation>
    </message>
</context><context>
    <name>AgcController</name>
    <message>
        <location filename="../live/agc_controller.py" line="68" />
        <source>There is no thermal picture whose span could be locked</source>
        <translation>Es gibt kein Wärmebild, dessen Bereich festgehalten werden könnte</translation>
    </message>
</context><context>
    <name>AgcPanel</name>
    <message>
        <location filename="../live/agc_panel.py" line="18" />
        <source>Plateau (steady)</source>
        <translation>Plateau (ruhig)</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="19" />
        <source>Percentile</source>
        <translation>Perzentil</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="20" />
        <source>Linear, min to max</source>
        <translation>Linear, Minimum bis Maximum</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="21" />
        <source>CLAHE (local)</source>
        <translation>CLAHE (lokal)</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="22" />
        <source>Manual span</source>
        <translation>Bereich von Hand</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="30" />
        <source>Cold tail</source>
        <translation>Kaltes Ende</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="31" />
        <source>Hot tail</source>
        <translation>Heißes Ende</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="32" />
        <source>Largest gain</source>
        <translation>Größte Verstärkung</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="33" />
        <source>Plateau</source>
        <translation>Plateau</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="34" />
        <source>Linear share</source>
        <translation>Linearer Anteil</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="35" />
        <source>CLAHE clip</source>
        <translation>CLAHE-Grenze</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="36" />
        <source>Damping</source>
        <translation>Dämpfung</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="37" />
        <source>Detail</source>
        <translation>Details</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="47" />
        <source>Thermal AGC</source>
        <translation>AGC des Wärmebilds</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="50" />
        <source>AGC mode</source>
        <translation>AGC-Modus</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="56" />
        <source>Mode</source>
        <translation>Modus</translation>
    </message>
    <message>
        <location filename="../live/agc_panel.py" line="62" />
        <source>Back to automatic</source>
        <translation>Zurück zur Automatik</translation>
    </message>
</context><context>
    <name>AssistantController</name>
    <message>
        <location filename="../setup/assistant_controller.py" line="180" />
        <source>Collecting frames of both cameras…</source>
        <translation>Bilder beider Kameras werden gesammelt…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="184" />
        <source>The thermal camera is {0:.0f} ms behind the visible one; this will be corrected.</source>
        <translation>Die Wärmebildkamera ist gegenüber der Tageslichtkamera um {0:.0f} ms verzögert; das wird ausgeglichen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="186" />
        <source>The visible camera is {0:.0f} ms behind the thermal one; this will be corrected.</source>
        <translation>Die Tageslichtkamera ist gegenüber der Wärmebildkamera um {0:.0f} ms verzögert; das wird ausgeglichen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="189" />
        <source>Both cameras are in step, as far as this can tell: nothing to correct.</source>
        <translation>Beide Kameras sind im Takt, soweit sich das sagen lässt: nichts auszugleichen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="192" />
        <source>Not sure yet. Move a hand or the rig before both cameras.</source>
        <translation>Noch nicht sicher. Eine Hand oder die Anlage vor beiden Kameras bewegen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="197" />
        <source>Searching how thermal lies on visible…</source>
        <translation>Suche, wie das Wärmebild auf dem Tageslichtbild liegt…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="199" />
        <source>The scene does not tell how thermal lies on visible: more edges that both cameras see are needed.</source>
        <translation>Die Szene verrät nicht, wie das Wärmebild auf dem Tageslichtbild liegt: Es fehlen Kanten, die beide Kameras sehen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="203" />
        <source>Thermal, plainly scaled, lies {0:.0f} visible px off. Found where it belongs; {1:.1f} px are left.</source>
        <translation>Nur skaliert liegt das Wärmebild {0:.0f} px (Tageslicht) daneben. Seine Lage ist gefunden; {1:.1f} px bleiben.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="208" />
        <source>Thermal lies near; corrected from the scene, {0:.1f} visible px are left.</source>
        <translation>Das Wärmebild liegt fast richtig; nach der Szene korrigiert bleiben {0:.1f} px (Tageslicht).</translation>
    </message>
    <message>
        <location filename="../setup/assistant_controller.py" line="211" />
        <source>Thermal lies on visible already ({0:.1f} visible px).</source>
        <translation>Das Wärmebild liegt schon auf dem Tageslichtbild ({0:.1f} px).</translation>
    </message>
</context><context>
    <name>AssistantPage</name>
    <message>
        <location filename="../setup/assistant_page.py" line="110" />
        <source>Back</source>
        <translation>Zurück</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="112" />
        <source>Set up two cameras</source>
        <translation>Zwei Kameras einrichten</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="119" />
        <source>Search again</source>
        <translation>Erneut suchen</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="127" />
        <source>1. Visible camera</source>
        <translation>1. Tageslichtkamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="127" />
        <source>2. Thermal camera</source>
        <translation>2. Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="151" />
        <source>or paste an address: rtsp://…</source>
        <translation>oder Adresse einfügen: rtsp://…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="152" />
        <source>{0}: address or file</source>
        <translation>{0}: Adresse oder Datei</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="154" />
        <source>File…</source>
        <translation>Datei…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="155" />
        <source>{0}: choose a file</source>
        <translation>{0}: Datei wählen</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="163" />
        <source>Videos (*.mkv *.mp4 *.avi *.mov *.webm);;All files (*)</source>
        <translation>Videos (*.mkv *.mp4 *.avi *.mov *.webm);;Alle Dateien (*)</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="169" />
        <source>Known camera</source>
        <translation>Bekannte Kamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="172" />
        <source>its address, e.g. 192.168.1.64</source>
        <translation>ihre Adresse, z. B. 192.168.1.64</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="173" />
        <source>Address of the known camera</source>
        <translation>Adresse der bekannten Kamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="175" />
        <source>Fill in</source>
        <translation>Eintragen</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="178" />
        <source>Known network camera</source>
        <translation>Bekannte Netzwerkkamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="191" />
        <source>3. Time offset and alignment of the two</source>
        <translation>3. Zeitversatz und Ausrichtung der beiden</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="194" />
        <source>Move a hand or the rig before both cameras for some ten seconds.</source>
        <translation>Etwa zehn Sekunden lang vor beiden Kameras eine Hand oder die Anlage bewegen.</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="198" />
        <source>measured: %p %</source>
        <translation>gemessen: %p %</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="199" />
        <source>Measuring the offset</source>
        <translation>Versatz wird gemessen</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="200" />
        <source>Searching how thermal lies on visible…</source>
        <translation>Suche, wie das Wärmebild auf dem Tageslichtbild liegt…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="211" />
        <source>4. Save</source>
        <translation>4. Speichern</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="222" />
        <location filename="../setup/assistant_page.py" line="215" />
        <source>Name of the rig</source>
        <translation>Name der Anlage</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="216" />
        <source>Save and start</source>
        <translation>Speichern und starten</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="277" />
        <source>opening…</source>
        <translation>wird geöffnet…</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="302" />
        <source>Simulated visible camera</source>
        <translation>Simulierte Tageslichtkamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="303" />
        <source>Simulated thermal camera</source>
        <translation>Simulierte Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../setup/assistant_page.py" line="304" />
        <source>part of this program</source>
        <translation>Teil dieses Programms</translation>
    </message>
</context><context>
    <name>Banner</name>
    <message>
        <location filename="../widgets/banner.py" line="55" />
        <source>Close</source>
        <translation>Schließen</translation>
    </message>
    <message>
        <location filename="../widgets/banner.py" line="56" />
        <source>Close this message</source>
        <translation>Diese Meldung schließen</translation>
    </message>
</context><context>
    <name>BannerStack</name>
    <message>
        <location filename="../widgets/banner.py" line="138" />
        <source>{0} more: see the log</source>
        <translation>{0} weitere: siehe Protokoll</translation>
    </message>
</context><context>
    <name>BoardPreview</name>
    <message>
        <location filename="../setup/calibration_page.py" line="69" />
        <source>board found</source>
        <translation>Tafel gefunden</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="69" />
        <source>no board found</source>
        <translation>keine Tafel gefunden</translation>
    </message>
</context><context>
    <name>BudgetMeter</name>
    <message>
        <location filename="../widgets/budget_meter.py" line="23" />
        <source>Alignment budget</source>
        <translation>Ausrichtungsbudget</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="41" />
        <source>Alignment budget: not known yet</source>
        <translation>Ausrichtungsbudget: noch nicht bekannt</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="43" />
        <source>parallax</source>
        <translation>Parallaxe</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="44" />
        <source>skew</source>
        <translation>Zeitversatz</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="45" />
        <source>shift</source>
        <translation>Verschiebung</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="47" />
        <source>Alignment: {0:.1f} of {1:g} px</source>
        <translation>Ausrichtung: {0:.1f} von {1:g} px</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="48" />
        <source>not known</source>
        <translation>nicht bekannt</translation>
    </message>
    <message>
        <location filename="../widgets/budget_meter.py" line="59" />
        <source>Alignment</source>
        <translation>Ausrichtung</translation>
    </message>
</context><context>
    <name>CalibrationController</name>
    <message>
        <location filename="../setup/calibration_controller.py" line="198" />
        <source>Nothing is running: start a rig first</source>
        <translation>Es läuft nichts: zuerst eine Anlage starten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_controller.py" line="253" />
        <source>written into {0}</source>
        <translation>in {0} eingetragen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_controller.py" line="253" />
        <source>for this run</source>
        <translation>für diesen Lauf</translation>
    </message>
    <message>
        <location filename="../setup/calibration_controller.py" line="254" />
        <source>Calibration {0} is in use, {1}</source>
        <translation>Kalibrierung {0} wird verwendet, {1}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_controller.py" line="266" />
        <source>Board saved: {0}</source>
        <translation>Tafel gespeichert: {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_controller.py" line="328" />
        <source>The rig was stopped; start it and begin again.</source>
        <translation>Die Anlage wurde angehalten; starten und neu beginnen.</translation>
    </message>
</context><context>
    <name>CalibrationPage</name>
    <message>
        <location filename="../setup/calibration_page.py" line="142" />
        <source>Visible camera</source>
        <translation>Tageslichtkamera</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="143" />
        <source>Thermal camera</source>
        <translation>Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="168" />
        <source>Visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="168" />
        <source>Thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="197" />
        <source>Back</source>
        <translation>Zurück</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="199" />
        <source>Calibrate the rig</source>
        <translation>Anlage kalibrieren</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="205" />
        <source>PRACTICE: a simulated board; nothing of your rig changes</source>
        <translation>ÜBUNG: simulierte Tafel; an der Anlage ändert sich nichts</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="220" />
        <source>Board</source>
        <translation>Tafel</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="221" />
        <source>Begin</source>
        <translation>Beginnen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="230" />
        <location filename="../setup/calibration_page.py" line="225" />
        <source>Working distance</source>
        <translation>Arbeitsabstand</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="226" />
        <source>near to horizon</source>
        <translation>nah bis zum Horizont</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="232" />
        <source>Practise with a simulated board</source>
        <translation>Mit einer simulierten Tafel üben</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="234" />
        <source>Save the board to print…</source>
        <translation>Tafel zum Drucken speichern…</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="237" />
        <source>1. The board</source>
        <translation>1. Die Tafel</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="239" />
        <source>Both cameras must see the pattern: circles cut out of a sheet before something warm, or a print on a warmed plate. An asymmetric grid of circles is the safest choice.</source>
        <translation>Beide Kameras müssen das Muster sehen: aus einem Blatt geschnittene Kreise vor etwas Warmem, oder einen Druck auf einer erwärmten Platte. Ein asymmetrisches Kreisgitter ist die sicherste Wahl.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="245" />
        <source>kind : columns x rows : spacing, as `lumitherm calibrate board` takes it</source>
        <translation>Art : Spalten x Zeilen : Abstand, wie `lumitherm calibrate board` es nimmt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="249" />
        <source>Where both pictures lie on each other exactly. Nearer and farther things are off by parallax.</source>
        <translation>Dort liegen beide Bilder genau aufeinander. Näheres und Ferneres ist durch Parallaxe versetzt.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="263" />
        <source>Views kept</source>
        <translation>Behaltene Ansichten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="264" />
        <source>Share of the field of both cameras covered</source>
        <translation>Abgedeckter Anteil des gemeinsamen Blickfelds</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="265" />
        <source>Views: none yet</source>
        <translation>Ansichten: noch keine</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="266" />
        <source>Field of both cameras covered: nothing yet</source>
        <translation>Gemeinsames Blickfeld abgedeckt: noch nichts</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="267" />
        <source>Solve now</source>
        <translation>Jetzt lösen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="269" />
        <source>Start over</source>
        <translation>Von vorn beginnen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="272" />
        <source>2. Views of the board</source>
        <translation>2. Ansichten der Tafel</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="280" />
        <source>A view is taken automatically once the board is still, sharp and in a new place.</source>
        <translation>Eine Ansicht wird von selbst aufgenommen, sobald die Tafel ruhig, scharf und an einer neuen Stelle ist.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="287" />
        <source>Solving</source>
        <translation>Lösung</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="290" />
        <source>3. Solving</source>
        <translation>3. Lösen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="292" />
        <source>Both lenses and the geometry between them, then again without some views and with others twice, to tell how certain they are. Up to a minute; the live picture goes on.</source>
        <translation>Beide Objektive und ihre Lage zueinander, dann noch einmal ohne manche Ansichten und mit anderen doppelt, um zu sagen, wie sicher sie sind. Bis zu einer Minute; das Bild läuft weiter.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="423" />
        <location filename="../setup/calibration_page.py" line="310" />
        <source>Apply</source>
        <translation>Anwenden</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="312" />
        <source>Open the report</source>
        <translation>Bericht öffnen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="314" />
        <source>Capture more views</source>
        <translation>Mehr Ansichten aufnehmen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="316" />
        <source>Discard</source>
        <translation>Verwerfen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="319" />
        <source>4. Result</source>
        <translation>4. Ergebnis</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="335" />
        <source>Show the board to both cameras.</source>
        <translation>Die Tafel beiden Kameras zeigen.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="360" />
        <source>Views: {0}, a few more help</source>
        <translation>Ansichten: {0}, einige mehr helfen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="361" />
        <source>Views: {0} of {1}</source>
        <translation>Ansichten: {0} von {1}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="363" />
        <source>Field of both cameras covered: {0:.0f} %</source>
        <translation>Gemeinsames Blickfeld abgedeckt: {0:.0f} %</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="370" />
        <source>Good</source>
        <translation>Gut</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="370" />
        <source>Not good enough</source>
        <translation>Nicht gut genug</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="374" />
        <source>the horizon</source>
        <translation>zum Horizont</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="376" />
        <source>Held-out error {0:.2f} thermal px (95 %: {1:.2f}). Exact at {2:.1f} m; parallax stays inside {3:g} visible px from {4:.1f} m to {5}.</source>
        <translation>Fehler an zurückgehaltenen Ansichten {0:.2f} px im Wärmebild (95 %: {1:.2f}). Genau bei {2:.1f} m; die Parallaxe bleibt unter {3:g} px im Tageslichtbild von {4:.1f} m bis {5}.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="395" />
        <source>passed</source>
        <translation>erfüllt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="395" />
        <source>failed</source>
        <translation>nicht erfüllt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="400" />
        <source>wanted: {0}</source>
        <translation>verlangt: {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="412" />
        <source>Visible is stamped {0:+.1f} ms against thermal (±{1:.1f}); put right from the next start of the cameras on</source>
        <translation>Zeitstempel des Tageslichtbilds gegenüber dem Wärmebild: {0:+.1f} ms (±{1:.1f}); ab dem nächsten Start der Kameras korrigiert</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="419" />
        <source>Rejected views: {0}; the report says why</source>
        <translation>Verworfene Ansichten: {0}; der Bericht sagt, warum</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="423" />
        <source>Apply all the same</source>
        <translation>Trotzdem anwenden</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="430" />
        <source>The board is bent: its points lie within {0:.1f} mm of depth in place of a plane. This was taken into account; stiffen it all the same.</source>
        <translation>Die Tafel ist verbogen: Ihre Punkte liegen in {0:.1f} mm Tiefe statt in einer Ebene. Das ist berücksichtigt; trotzdem versteifen.</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="443" />
        <source>Save the board</source>
        <translation>Tafel speichern</translation>
    </message>
    <message>
        <location filename="../setup/calibration_page.py" line="443" />
        <source>Drawing (*.pdf *.svg)</source>
        <translation>Zeichnung (*.pdf *.svg)</translation>
    </message>
</context><context>
    <name>CalibrationPanel</name>
    <message>
        <location filename="../live/rig_panels.py" line="291" />
        <location filename="../live/rig_panels.py" line="231" />
        <source>Calibration</source>
        <translation>Kalibrierung</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="235" />
        <source>Calibrate with a board…</source>
        <translation>Mit einer Tafel kalibrieren…</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="237" />
        <source>Choose a file…</source>
        <translation>Datei wählen…</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="239" />
        <source>None</source>
        <translation>Keine</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="240" />
        <source>Use no calibration</source>
        <translation>Keine Kalibrierung verwenden</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="248" />
        <source>Correct</source>
        <translation>Korrigieren</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="249" />
        <source>Move thermal as the drift monitor proposes</source>
        <translation>Wärmebild so verschieben, wie die Driftüberwachung vorschlägt</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="251" />
        <source>Undo</source>
        <translation>Zurücknehmen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="252" />
        <source>Go back to the calibration as it was loaded</source>
        <translation>Zurück zur Kalibrierung, wie sie geladen wurde</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="272" />
        <source>Thermal lies {0:.0f} px off: the two pictures do not fit</source>
        <translation>Das Wärmebild liegt {0:.0f} px daneben: Die Bilder passen nicht aufeinander</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="274" />
        <source>Measured drift: {0:.1f} px</source>
        <translation>Gemessene Drift: {0:.1f} px</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="276" />
        <source>Proposed correction: {0:.1f} px</source>
        <translation>Vorgeschlagene Korrektur: {0:.1f} px</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="278" />
        <source>Corrected by: {0:.1f} px</source>
        <translation>Korrigiert um: {0:.1f} px</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="286" />
        <source>None: thermal is only scaled, so that only a distant scene is aligned</source>
        <translation>Keine: das Wärmebild wird nur skaliert, daher ist nur Fernes ausgerichtet</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="287" />
        <source>In use: {0}</source>
        <translation>Verwendet: {0}</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="291" />
        <source>Calibrations (*.yaml)</source>
        <translation>Kalibrierungen (*.yaml)</translation>
    </message>
</context><context>
    <name>CalibrationWords</name>
    <message>
        <location filename="../setup/calibration_words.py" line="16" />
        <source>and</source>
        <translation>und</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="19" />
        <source>{0} of {1} views</source>
        <translation>{0} von {1} Ansichten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="20" />
        <source>{0} views</source>
        <translation>{0} Ansichten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="21" />
        <source>{0} of the thermal picture covered</source>
        <translation>{0} des Wärmebilds abgedeckt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="22" />
        <source>{0} of the common field covered</source>
        <translation>{0} des gemeinsamen Blickfelds abgedeckt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="23" />
        <source>{0} of the common field in the thermal picture covered</source>
        <translation>{0} des gemeinsamen Blickfelds im Wärmebild abgedeckt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="24" />
        <source>rotation known to {0} degrees (wanted {1})</source>
        <translation>Drehung nur auf {0} Grad bekannt (gewünscht {1})</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="25" />
        <source>thermal placed to {0} visible px at the worst place (wanted {1})</source>
        <translation>Wärmebild an der schlechtesten Stelle auf {0} px des Tageslichtbilds genau (gewünscht {1})</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="26" />
        <source>2 sigma {0} visible px</source>
        <translation>2 Sigma {0} px (Tageslicht)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="27" />
        <source>boards are held too close</source>
        <translation>die Tafel wird zu nah gehalten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="28" />
        <source>{0}: go on</source>
        <translation>{0}: weiter</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="29" />
        <source>Enough: {0}</source>
        <translation>Genug: {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="30" />
        <source>That is as many as are of use: {0}</source>
        <translation>Mehr bringen nichts: {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="31" />
        <source>but {0}</source>
        <translation>aber {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="32" />
        <source>Solve now</source>
        <translation>Jetzt lösen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="34" />
        <source>Bring the board to the {0} of the thermal picture</source>
        <translation>Die Tafel im Wärmebild {0} zeigen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="35" />
        <source>Bring the board to the {0} of the common field</source>
        <translation>Die Tafel im gemeinsamen Blickfeld {0} zeigen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="36" />
        <source>Bring the board to the {0} of the common field in the thermal picture</source>
        <translation>Die Tafel im gemeinsamen Blickfeld des Wärmebilds {0} zeigen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="37" />
        <source>about {0} m away ({1} of the thermal picture's width)</source>
        <translation>etwa {0} m entfernt ({1} der Breite des Wärmebilds)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="38" />
        <source>top left</source>
        <translation>oben links</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="39" />
        <source>top</source>
        <translation>oben</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="40" />
        <source>top right</source>
        <translation>oben rechts</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="41" />
        <source>left</source>
        <translation>links</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="42" />
        <source>middle</source>
        <translation>in der Mitte</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="43" />
        <source>right</source>
        <translation>rechts</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="44" />
        <source>bottom left</source>
        <translation>unten links</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="45" />
        <source>bottom</source>
        <translation>unten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="46" />
        <source>bottom right</source>
        <translation>unten rechts</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="47" />
        <source>facing you</source>
        <translation>gerade zur Kamera</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="48" />
        <source>its right edge turned away by about 30 degrees</source>
        <translation>die rechte Kante um etwa 30 Grad weggedreht</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="49" />
        <source>its left edge turned away by about 30 degrees</source>
        <translation>die linke Kante um etwa 30 Grad weggedreht</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="50" />
        <source>its lower edge tipped away by about 30 degrees</source>
        <translation>die untere Kante um etwa 30 Grad weggekippt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="51" />
        <source>its upper edge tipped away by about 30 degrees</source>
        <translation>die obere Kante um etwa 30 Grad weggekippt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="52" />
        <source>nearer or farther than before</source>
        <translation>näher oder weiter weg als bisher</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="54" />
        <source>no board in the visible picture</source>
        <translation>keine Tafel im Tageslichtbild</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="55" />
        <source>no board in the thermal picture</source>
        <translation>keine Tafel im Wärmebild</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="56" />
        <source>no board in the visible and the thermal picture</source>
        <translation>keine Tafel in beiden Bildern</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="57" />
        <source>hold still</source>
        <translation>ruhig halten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="58" />
        <source>moving ({0} visible px a picture)</source>
        <translation>bewegt ({0} px je Tageslichtbild)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="59" />
        <source>blurred</source>
        <translation>unscharf</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="60" />
        <source>much like a view that is kept already</source>
        <translation>einer behaltenen Ansicht sehr ähnlich</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="61" />
        <source>view {0} kept</source>
        <translation>Ansicht {0} behalten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="62" />
        <source>held still</source>
        <translation>ruhig gehalten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="63" />
        <source>{0} pictures averaged</source>
        <translation>{0} Bilder gemittelt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="64" />
        <source>enough of this pose</source>
        <translation>genug von dieser Lage</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="65" />
        <source>enough views</source>
        <translation>genug Ansichten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="67" />
        <source>accepted views</source>
        <translation>angenommene Ansichten</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="68" />
        <source>uncertainty over the picture (2 sigma, largest)</source>
        <translation>Unsicherheit im Bild (2 Sigma, größte)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="69" />
        <source>transfer error on held-out views, median</source>
        <translation>Übertragungsfehler an zurückgehaltenen Ansichten, Median</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="70" />
        <source>transfer error on held-out views, 95th percentile</source>
        <translation>Übertragungsfehler an zurückgehaltenen Ansichten, 95 %</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="71" />
        <source>common field that the boards were held in</source>
        <translation>gemeinsames Blickfeld, in dem die Tafel gehalten wurde</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="72" />
        <source>coverage of the visible picture</source>
        <translation>Abdeckung des Tageslichtbilds</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="73" />
        <source>coverage of the thermal picture</source>
        <translation>Abdeckung des Wärmebilds</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="74" />
        <source>at least {0} of 6x6 cells</source>
        <translation>mindestens {0} von 6x6 Feldern</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="75" />
        <source>at least {0}</source>
        <translation>mindestens {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="76" />
        <source>at most {0}</source>
        <translation>höchstens {0}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="77" />
        <source>{0} thermal px</source>
        <translation>{0} px (Wärmebild)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="78" />
        <source>{0} visible px</source>
        <translation>{0} px (Tageslicht)</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="79" />
        <source>Capture more poses: near, far, tilted 20 to 40 degrees in each direction</source>
        <translation>Mehr Lagen aufnehmen: nah, fern, in jeder Richtung um 20 bis 40 Grad geneigt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="80" />
        <source>Capture poses where the uncertainty map is dark, at the borders above all</source>
        <translation>Lagen dort aufnehmen, wo die Unsicherheitskarte dunkel ist, vor allem an den Rändern</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="81" />
        <source>Hold the board still, and heat it until its edges are sharp</source>
        <translation>Die Tafel ruhig halten und heizen, bis ihre Kanten scharf sind</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="82" />
        <source>Look at the per-view residuals and delete the blurred views</source>
        <translation>Die Abweichungen je Ansicht ansehen und unscharfe Ansichten löschen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="83" />
        <source>Hold a larger board farther away: so close, both cameras see it in a strip only</source>
        <translation>Eine größere Tafel weiter weg halten: so nah sehen beide Kameras sie nur in einem Streifen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="86" />
        <source>Bring the board into the empty cells of the visible coverage map</source>
        <translation>Die Tafel in die leeren Felder der Abdeckung des Tageslichtbilds bringen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="87" />
        <source>Bring the board into the empty cells of the thermal coverage map</source>
        <translation>Die Tafel in die leeren Felder der Abdeckung des Wärmebilds bringen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="89" />
        <source>Where the board moves one way in the visible picture it moves the other way in the thermal one: one camera's picture is mirrored</source>
        <translation>Wohin sich die Tafel im Tageslichtbild bewegt, dem läuft sie im Wärmebild entgegen: Das Bild einer Kamera ist gespiegelt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="94" />
        <source>Set `mirror: true` for that camera (#mirror=1 behind an address or file), and capture again</source>
        <translation>Für diese Kamera `mirror: true` setzen (#mirror=1 hinter Adresse oder Datei) und neu aufnehmen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="98" />
        <source>Each camera fits alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px and {3} thermal px: the views were not taken at the same moment, or the board is bent</source>
        <translation>Jede Kamera passt für sich (Tageslicht {0} px, Wärmebild {1} px), zusammen aber liegen beide um {2} px (Tageslicht) und {3} px (Wärmebild) daneben: Die Ansichten sind nicht vom selben Augenblick, oder die Tafel ist verbogen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="103" />
        <source>Each camera fits alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px and {3} thermal px, and the views differ by {4} degrees about how the cameras are turned, where noise explains {5}: the views were not taken at the same moment, or the board is bent</source>
        <translation>Jede Kamera passt für sich (Tageslicht {0} px, Wärmebild {1} px), zusammen aber liegen beide um {2} px (Tageslicht) und {3} px (Wärmebild) daneben, und die Ansichten weichen in der Drehung der Kameras um {4} Grad voneinander ab, durch Rauschen erklärbar sind {5}: Die Ansichten sind nicht vom selben Augenblick, oder die Tafel ist verbogen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="109" />
        <source>Each camera is off when alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px and {3} thermal px: the views were not taken at the same moment, or the board is bent, or its lengths are not those that were given</source>
        <translation>Jede Kamera liegt schon für sich daneben (Tageslicht {0} px, Wärmebild {1} px), zusammen aber liegen beide um {2} px (Tageslicht) und {3} px (Wärmebild) daneben: Die Ansichten sind nicht vom selben Augenblick, oder die Tafel ist verbogen, oder ihre Maße sind nicht die angegebenen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="115" />
        <source>Each camera is off when alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px and {3} thermal px, and the views differ by {4} degrees about how the cameras are turned, where noise explains {5}: the views were not taken at the same moment, or the board is bent, or its lengths are not those that were given</source>
        <translation>Jede Kamera liegt schon für sich daneben (Tageslicht {0} px, Wärmebild {1} px), zusammen aber liegen beide um {2} px (Tageslicht) und {3} px (Wärmebild) daneben, und die Ansichten weichen in der Drehung der Kameras um {4} Grad voneinander ab, durch Rauschen erklärbar sind {5}: Die Ansichten sind nicht vom selben Augenblick, oder die Tafel ist verbogen, oder ihre Maße sind nicht die angegebenen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="122" />
        <source>Hold it still at each view, on a tripod if need be, and stiffen it</source>
        <translation>Bei jeder Ansicht ruhig halten, notfalls auf einem Stativ, und versteifen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="123" />
        <source>Fitting both together would move the principal points by {0} visible px and {1} thermal px; so both lenses are held as each camera alone gives them</source>
        <translation>Gemeinsam angepasst wanderten die Hauptpunkte um {0} px (Tageslicht) und {1} px (Wärmebild); darum bleiben beide Objektive so, wie jede Kamera für sich sie ergibt</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="129" />
        <source>{0} views are kept, at least {1} are needed</source>
        <translation>{0} Ansichten sind behalten, mindestens {1} sind nötig</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="131" />
        <source>{0} whole points; two give a first map, four or more one to rely on</source>
        <translation>{0} ganze Punkte; zwei ergeben eine erste Abbildung, vier oder mehr eine verlässliche</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="132" />
        <source>{0} visible but {1} thermal points; they must come in pairs</source>
        <translation>{0} Punkte im Tageslichtbild, aber {1} im Wärmebild; es müssen Paare sein</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="133" />
        <source>{0} point pairs, a {1} map needs at least {2}</source>
        <translation>{0} Punktpaare, eine Abbildung der Art {1} braucht mindestens {2}</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="134" />
        <source>the points do not determine a {0} map: they lie on one line or on top of each other</source>
        <translation>die Punkte bestimmen keine Abbildung der Art {0}: Sie liegen auf einer Geraden oder aufeinander</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="137" />
        <source>the points do not determine a homography: three or more lie on one line</source>
        <translation>die Punkte bestimmen keine Homographie: Drei oder mehr liegen auf einer Geraden</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="138" />
        <source>only {0} of {1} point pairs agree to {2} visible px</source>
        <translation>nur {0} von {1} Punktpaaren stimmen auf {2} px im Tageslichtbild überein</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="139" />
        <source>Check the picks, or pick points at one distance</source>
        <translation>Die Punkte prüfen, oder Punkte in einer einzigen Entfernung wählen</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="140" />
        <source>similarity</source>
        <translation>Ähnlichkeit</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="141" />
        <source>affine</source>
        <translation>affin</translation>
    </message>
    <message>
        <location filename="../setup/calibration_words.py" line="142" />
        <source>homography</source>
        <translation>Homographie</translation>
    </message>
</context><context>
    <name>ComparePanel</name>
    <message>
        <location filename="../live/compare_panel.py" line="23" />
        <source>Compare A and B</source>
        <translation>A und B vergleichen</translation>
    </message>
    <message>
        <location filename="../live/compare_panel.py" line="26" />
        <source>A left, B right of the divider</source>
        <translation>A links, B rechts der Linie</translation>
    </message>
    <message>
        <location filename="../live/compare_panel.py" line="31" />
        <source>Use B</source>
        <translation>B übernehmen</translation>
    </message>
    <message>
        <location filename="../live/compare_panel.py" line="32" />
        <source>B's engine, model and AGC take the place of A's</source>
        <translation>Verfahren, Modell und AGC von B treten an die Stelle derer von A</translation>
    </message>
</context><context>
    <name>ComparisonController</name>
    <message>
        <location filename="../live/comparison_controller.py" line="81" />
        <source>Nothing is running: start a rig first</source>
        <translation>Es läuft nichts: zuerst eine Anlage starten</translation>
    </message>
    <message>
        <location filename="../live/comparison_controller.py" line="103" />
        <source>A is fused in the same way just now; B is fused by {0}</source>
        <translation>A wird gerade ebenso fusioniert; B wird es durch {0}</translation>
    </message>
    <message>
        <location filename="../live/comparison_controller.py" line="119" />
        <source>{0} is being put to use</source>
        <translation>{0} wird eingesetzt</translation>
    </message>
    <message>
        <location filename="../live/comparison_controller.py" line="129" />
        <source>B is being built…</source>
        <translation>B wird vorbereitet…</translation>
    </message>
    <message>
        <location filename="../live/comparison_controller.py" line="134" />
        <source>B takes {0:.0f} ms a picture</source>
        <translation>B braucht {0:.0f} ms je Bild</translation>
    </message>
</context><context>
    <name>CurvePlot</name>
    <message>
        <location filename="../picture/curve_plot.py" line="91" />
        <source>nothing measured yet</source>
        <translation>noch nichts gemessen</translation>
    </message>
</context><context>
    <name>EnginePanel</name>
    <message>
        <location filename="../live/rig_panels.py" line="31" />
        <source>Engine and model</source>
        <translation>Verfahren und Modell</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="45" />
        <location filename="../live/rig_panels.py" line="33" />
        <source>Engine</source>
        <translation>Verfahren</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="46" />
        <location filename="../live/rig_panels.py" line="34" />
        <source>Model</source>
        <translation>Modell</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="36" />
        <source>Build and use</source>
        <translation>Vorbereiten und verwenden</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="37" />
        <source>The present engine goes on until the new one is ready</source>
        <translation>Das jetzige Verfahren läuft weiter, bis das neue bereit ist</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="39" />
        <source>Roll back</source>
        <translation>Zurücknehmen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="65" />
        <source>Back to {0}</source>
        <translation>Zurück zu {0}</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="67" />
        <source>No other model was in use before</source>
        <translation>Vorher war kein anderes Modell im Einsatz</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="73" />
        <source>Running: {0}</source>
        <translation>Es läuft: {0}</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="75" />
        <source>Fallback: {0}</source>
        <translation>Ersatz: {0}</translation>
    </message>
</context><context>
    <name>FuseChoice</name>
    <message>
        <location filename="../widgets/fuse_choice.py" line="36" />
        <source>as recorded</source>
        <translation>wie aufgenommen</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="38" />
        <source>{0}: engine</source>
        <translation>{0}: Verfahren</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="39" />
        <source>{0}: model</source>
        <translation>{0}: Modell</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="42" />
        <source>as A</source>
        <translation>wie A</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="44" />
        <source>{0}: AGC</source>
        <translation>{0}: AGC</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="46" />
        <source>Engine</source>
        <translation>Verfahren</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="47" />
        <source>Model</source>
        <translation>Modell</translation>
    </message>
    <message>
        <location filename="../widgets/fuse_choice.py" line="48" />
        <source>AGC</source>
        <translation>AGC</translation>
    </message>
</context><context>
    <name>Health</name>
    <message>
        <location filename="../widgets/health.py" line="46" />
        <source>Use a lighter model</source>
        <translation>Ein leichteres Modell nehmen</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="47" />
        <source>Calibrate the cameras…</source>
        <translation>Kameras kalibrieren…</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="48" />
        <source>Move the thermal picture into place</source>
        <translation>Das Wärmebild zurechtrücken</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="49" />
        <source>Reopen the cameras now</source>
        <translation>Kameras jetzt neu öffnen</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="50" />
        <source>Choose other cameras…</source>
        <translation>Andere Kameras wählen…</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="51" />
        <source>Show the recordings, to delete some</source>
        <translation>Aufnahmen zeigen, um welche zu löschen</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="52" />
        <source>Record to another folder…</source>
        <translation>In einen anderen Ordner aufnehmen…</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="87" />
        <source>Both cameras run, this computer keeps up, and the pictures lie on each other.</source>
        <translation>Beide Kameras laufen, der Rechner hält mit, und die Bilder liegen aufeinander.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="88" />
        <source>Good</source>
        <translation>Gut</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="96" />
        <source>There is space for less than ten minutes of recording.</source>
        <translation>Der Platz reicht für weniger als zehn Minuten Aufnahme.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="98" />
        <source>Nothing is being recorded: the disk is full or cannot be written.</source>
        <translation>Es wird nichts aufgenommen: Der Datenträger ist voll oder lässt sich nicht beschreiben.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="99" />
        <source>Delete recordings that are not needed, or record to another disk.</source>
        <translation>Nicht mehr benötigte Aufnahmen löschen oder auf einen anderen Datenträger aufnehmen.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="101" />
        <source>Disk</source>
        <translation>Speicherplatz</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="109" />
        <source>visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="109" />
        <source>thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="110" />
        <source>No pictures come from: {0}.</source>
        <translation>Keine Bilder von: {0}.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="111" />
        <source>Check its cable and power. It is tried again on its own every few seconds.</source>
        <translation>Kabel und Stromversorgung prüfen. Alle paar Sekunden wird es von selbst wieder versucht.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="114" />
        <source>Camera trouble</source>
        <translation>Kamerastörung</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="122" />
        <source>The cameras give {0:.0f} pictures a second, {1:.0f} of them can be fused.</source>
        <translation>Die Kameras liefern {0:.0f} Bilder je Sekunde, {1:.0f} davon lassen sich fusionieren.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="124" />
        <source>Close other programs, or use a lighter model: it shows a little less detail.</source>
        <translation>Andere Programme schließen oder ein leichteres Modell nehmen: Es zeigt etwas weniger Einzelheiten.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="126" />
        <source>This computer is too slow</source>
        <translation>Rechner zu langsam</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="133" />
        <source>Thermal lies {0:.0f} px beside the visible picture: everything appears twice.</source>
        <translation>Das Wärmebild liegt {0:.0f} px neben dem Tageslichtbild: Alles erscheint doppelt.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="134" />
        <source>The lenses differ, or a camera was turned. Set the cameras up, or calibrate.</source>
        <translation>Die Objektive sind verschieden, oder eine Kamera wurde gedreht. Die Kameras einrichten oder kalibrieren.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="144" />
        <location filename="../widgets/health.py" line="136" />
        <source>Check alignment</source>
        <translation>Ausrichtung prüfen</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="141" />
        <source>The two pictures do not lie on each other; edges may appear twice.</source>
        <translation>Die beiden Bilder liegen nicht aufeinander; Kanten können doppelt erscheinen.</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="142" />
        <source>Something may have moved a camera. Correct it here, or calibrate with a board.</source>
        <translation>Vielleicht wurde eine Kamera verstellt. Hier korrigieren oder mit einer Tafel kalibrieren.</translation>
    </message>
</context><context>
    <name>HealthController</name>
    <message>
        <location filename="../live/health_controller.py" line="79" />
        <source>A lighter model is being put to use</source>
        <translation>Ein leichteres Modell wird eingesetzt</translation>
    </message>
    <message>
        <location filename="../live/health_controller.py" line="82" />
        <source>Record to</source>
        <translation>Aufnehmen nach</translation>
    </message>
</context><context>
    <name>HealthLight</name>
    <message>
        <location filename="../widgets/health.py" line="168" />
        <source>Off</source>
        <translation>Aus</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="170" />
        <source>Health: {0}</source>
        <translation>Zustand: {0}</translation>
    </message>
    <message>
        <location filename="../widgets/health.py" line="171" />
        <source>Nothing runs</source>
        <translation>Es läuft nichts</translation>
    </message>
</context><context>
    <name>HelpOverlay</name>
    <message>
        <location filename="../help_overlay.py" line="32" />
        <source>Help</source>
        <translation>Hilfe</translation>
    </message>
    <message>
        <location filename="../help_overlay.py" line="44" />
        <source>Keys</source>
        <translation>Tasten</translation>
    </message>
    <message>
        <location filename="../help_overlay.py" line="47" />
        <source>Wheel: zoom · drag: pan · double click: full screen · drag a mark or its corner: move it · drag the divider: wipe · Esc: leave</source>
        <translation>Rad: vergrößern · Ziehen: verschieben · Doppelklick: Vollbild · Messstelle oder Ecke ziehen: versetzen · Linie ziehen: Schieber · Esc: verlassen</translation>
    </message>
</context><context>
    <name>HistogramView</name>
    <message>
        <location filename="../picture/histogram_view.py" line="35" />
        <source>Histogram of raw counts</source>
        <translation>Histogramm der Rohwerte</translation>
    </message>
    <message>
        <location filename="../picture/histogram_view.py" line="36" />
        <source>Drag the ends of the span to map it by hand; arrow keys move it</source>
        <translation>Die Enden des Bereichs ziehen, um ihn von Hand zu setzen; Pfeiltasten verschieben ihn</translation>
    </message>
    <message>
        <location filename="../picture/histogram_view.py" line="120" />
        <source>no picture</source>
        <translation>kein Bild</translation>
    </message>
    <message>
        <location filename="../picture/histogram_view.py" line="122" />
        <source>counts</source>
        <translation>Rohwerte</translation>
    </message>
    <message>
        <location filename="../picture/histogram_view.py" line="123" />
        <source>{0} to {1} {2}</source>
        <translation>{0} bis {1} {2}</translation>
    </message>
</context><context>
    <name>LiveController</name>
    <message>
        <location filename="../live/live_controller.py" line="466" />
        <source>Nothing is running: start a rig first</source>
        <translation>Es läuft nichts: zuerst eine Anlage starten</translation>
    </message>
</context><context>
    <name>LivePage</name>
    <message>
        <location filename="../live/live_page.py" line="102" />
        <source>Cameras off</source>
        <translation>Kameras aus</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="102" />
        <source>Cameras on</source>
        <translation>Kameras an</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="105" />
        <source>stopped</source>
        <translation>angehalten</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="106" />
        <source>starting…</source>
        <translation>startet…</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="107" />
        <source>waiting for the first picture…</source>
        <translation>wartet auf das erste Bild…</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="108" />
        <source>stopping, ending the recording…</source>
        <translation>hält an, die Aufnahme wird beendet…</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="144" />
        <source>A  as it fuses now</source>
        <translation>A  wie jetzt fusioniert</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="144" />
        <source>fused</source>
        <translation>fusioniert</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="145" />
        <source>B</source>
        <translation>B</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="150" />
        <source>Stop recording</source>
        <translation>Aufnahme beenden</translation>
    </message>
    <message>
        <location filename="../live/live_page.py" line="150" />
        <source>Record</source>
        <translation>Aufnehmen</translation>
    </message>
</context><context>
    <name>LogView</name>
    <message>
        <location filename="../log_view.py" line="22" />
        <source>Lumitherm log</source>
        <translation>Lumitherm-Protokoll</translation>
    </message>
    <message>
        <location filename="../log_view.py" line="29" />
        <source>Log</source>
        <translation>Protokoll</translation>
    </message>
    <message>
        <location filename="../log_view.py" line="30" />
        <source>Nothing has gone wrong so far.</source>
        <translation>Bisher ist nichts schiefgegangen.</translation>
    </message>
    <message>
        <location filename="../log_view.py" line="31" />
        <source>Copy all</source>
        <translation>Alles kopieren</translation>
    </message>
    <message>
        <location filename="../log_view.py" line="33" />
        <source>Close</source>
        <translation>Schließen</translation>
    </message>
</context><context>
    <name>MainWindow</name>
    <message>
        <location filename="../main_window.py" line="116" />
        <source>Open</source>
        <translation>Öffnen</translation>
    </message>
    <message>
        <location filename="../main_window.py" line="116" />
        <source>Configurations and recordings (*.yaml *.yml *.mkv *.mp4)</source>
        <translation>Konfigurationen und Aufnahmen (*.yaml *.yml *.mkv *.mp4)</translation>
    </message>
</context><context>
    <name>MeasureController</name>
    <message>
        <location filename="../measuring/measure_controller.py" line="85" />
        <source>relative</source>
        <translation>relativ</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="106" />
        <source>Spot</source>
        <translation>Punkt</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="107" />
        <source>Box</source>
        <translation>Rechteck</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="108" />
        <source>Line</source>
        <translation>Linie</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="109" />
        <source>Area</source>
        <translation>Fläche</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="230" />
        <source>ALARM {0}</source>
        <translation>ALARM {0}</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="244" />
        <source>no thermal picture here</source>
        <translation>hier kein Wärmebild</translation>
    </message>
    <message>
        <location filename="../measuring/measure_controller.py" line="247" />
        <source>min {0}  mean {1}  max {2}</source>
        <translation>min {0}  Mittel {1}  max {2}</translation>
    </message>
</context><context>
    <name>MeasurePanel</name>
    <message>
        <location filename="../measuring/measure_panel.py" line="65" />
        <source>Measuring</source>
        <translation>Messen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="70" />
        <source>Mark the hottest and coldest place</source>
        <translation>Heißeste und kälteste Stelle</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="77" />
        <source>Profile along the line</source>
        <translation>Profil entlang der Linie</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="93" />
        <source>Spot (tap) or box (drag)</source>
        <translation>Punkt (tippen) oder Rechteck (ziehen)</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="94" />
        <source>Line with its profile</source>
        <translation>Linie mit ihrem Profil</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="95" />
        <source>Polygon: tap its corners, the first one again to close it</source>
        <translation>Fläche: Ecken antippen, zum Schließen wieder die erste</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="106" />
        <source>Clear</source>
        <translation>Leeren</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="107" />
        <source>Remove everything that is measured</source>
        <translation>Alle Messstellen entfernen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="114" />
        <source>What is measured</source>
        <translation>Messstellen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="115" />
        <source>Name</source>
        <translation>Name</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="115" />
        <source>min</source>
        <translation>min</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="115" />
        <source>mean</source>
        <translation>Mittel</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="115" />
        <source>max</source>
        <translation>max</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="148" />
        <location filename="../measuring/measure_panel.py" line="130" />
        <source>Alarm</source>
        <translation>Alarm</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="131" />
        <source>Off</source>
        <translation>Aus</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="131" />
        <source>Above</source>
        <translation>Über</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="131" />
        <source>Below</source>
        <translation>Unter</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="134" />
        <source>Alarm at</source>
        <translation>Alarm bei</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="135" />
        <source>Sound</source>
        <translation>Ton</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="137" />
        <source>Mark event and record</source>
        <translation>Markieren und aufnehmen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="141" />
        <source>Remove</source>
        <translation>Entfernen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="142" />
        <source>Remove the chosen mark</source>
        <translation>Die gewählte Messstelle entfernen</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="149" />
        <source>at</source>
        <translation>bei</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="157" />
        <source>Difference, from</source>
        <translation>Differenz, von</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="158" />
        <source>Difference, to</source>
        <translation>Differenz, zu</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="183" />
        <location filename="../measuring/measure_panel.py" line="175" />
        <source>Emissivity</source>
        <translation>Emissionsgrad</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="177" />
        <source>Reflected temperature</source>
        <translation>Reflektierte Temperatur</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="184" />
        <source>Reflected</source>
        <translation>Reflektiert</translation>
    </message>
    <message>
        <location filename="../measuring/measure_panel.py" line="236" />
        <source>px</source>
        <translation>px</translation>
    </message>
</context><context>
    <name>ModelBox</name>
    <message>
        <location filename="../widgets/model_box.py" line="40" />
        <source>Add a weights file to the models; it is checked first</source>
        <translation>Eine Gewichtsdatei zu den Modellen hinzufügen; sie wird zuerst geprüft</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="41" />
        <source>{0}: add a weights file</source>
        <translation>{0}: Gewichtsdatei hinzufügen</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="60" />
        <source>shipped</source>
        <translation>mitgeliefert</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="60" />
        <source>added {0}</source>
        <translation>hinzugefügt {0}</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="67" />
        <source>the one in use ({0})</source>
        <translation>das verwendete ({0})</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="67" />
        <source>the one in use</source>
        <translation>das verwendete</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="94" />
        <source>Weights</source>
        <translation>Gewichte</translation>
    </message>
    <message>
        <location filename="../widgets/model_box.py" line="94" />
        <source>Weights (*.safetensors)</source>
        <translation>Gewichte (*.safetensors)</translation>
    </message>
</context><context>
    <name>ModelController</name>
    <message>
        <location filename="../live/model_controller.py" line="91" />
        <source>Model {0} was added</source>
        <translation>Modell {0} wurde hinzugefügt</translation>
    </message>
    <message>
        <location filename="../live/model_controller.py" line="111" />
        <source>Back to model {0}</source>
        <translation>Zurück zu Modell {0}</translation>
    </message>
</context><context>
    <name>OperatorBar</name>
    <message>
        <location filename="../picture/operator_bar.py" line="95" />
        <source>View</source>
        <translation>Ansicht</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="103" />
        <source>Strength of thermal in the fused picture</source>
        <translation>Anteil des Wärmebilds am fusionierten Bild</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="114" />
        <location filename="../picture/operator_bar.py" line="113" />
        <source>Strength</source>
        <translation>Wärmebild-Anteil</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="124" />
        <source>Spot (tap) or box (drag)</source>
        <translation>Punkt (tippen) oder Rechteck (ziehen)</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="125" />
        <source>Line</source>
        <translation>Linie</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="126" />
        <source>Area: tap its corners</source>
        <translation>Fläche: Ecken antippen</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="133" />
        <source>Hottest and coldest</source>
        <translation>Heißeste und kälteste Stelle</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="134" />
        <source>Remove the chosen mark</source>
        <translation>Die gewählte Messstelle entfernen</translation>
    </message>
    <message>
        <location filename="../picture/operator_bar.py" line="135" />
        <source>Remove all</source>
        <translation>Alle entfernen</translation>
    </message>
</context><context>
    <name>PickView</name>
    <message>
        <location filename="../setup/pick_view.py" line="47" />
        <source>Click: a new point. Drag, or arrow keys: move it by a quarter pixel, with Shift by two.</source>
        <translation>Klick: ein neuer Punkt. Ziehen oder Pfeiltasten: um ein Viertelpixel verschieben, mit der Umschalttaste um zwei.</translation>
    </message>
</context><context>
    <name>PlainWords</name>
    <message>
        <location filename="../widgets/plain_words.py" line="27" />
        <source>The picture is fused in a simpler way: the network does not run here.</source>
        <translation>Das Bild wird einfacher fusioniert: Das Netz läuft hier nicht.</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="28" />
        <source>The log says why: Ctrl+L in the expert view.</source>
        <translation>Das Protokoll sagt, warum: Strg+L in der Expertenansicht.</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="29" />
        <source>The picture is fused in a simpler way until the network is ready.</source>
        <translation>Das Bild wird einfacher fusioniert, bis das Netz bereit ist.</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="31" />
        <source>the visible camera</source>
        <translation>die Tageslichtkamera</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="32" />
        <source>the thermal camera</source>
        <translation>die Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="33" />
        <source>the recording</source>
        <translation>die Aufnahme</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="34" />
        <source>the alignment</source>
        <translation>die Ausrichtung</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="36" />
        <source>There is trouble with {0}.</source>
        <translation>Störung: {0}.</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="37" />
        <source>the pictures</source>
        <translation>die Bilder</translation>
    </message>
    <message>
        <location filename="../widgets/plain_words.py" line="38" />
        <source>The log says more: Ctrl+L in the expert view.</source>
        <translation>Mehr steht im Protokoll: Strg+L in der Expertenansicht.</translation>
    </message>
</context><context>
    <name>PlaybackController</name>
    <message>
        <location filename="../playback/playback_controller.py" line="281" />
        <source>A and B would be the same; B is fused by {0}</source>
        <translation>A und B wären gleich; B wird durch {0} fusioniert</translation>
    </message>
    <message>
        <location filename="../playback/playback_controller.py" line="323" />
        <source>Show in folder</source>
        <translation>Im Ordner zeigen</translation>
    </message>
    <message>
        <location filename="../playback/playback_controller.py" line="324" />
        <source>Snapshot saved: {0}</source>
        <translation>Schnappschuss gespeichert: {0}</translation>
    </message>
    <message>
        <location filename="../playback/playback_controller.py" line="349" />
        <source>Rendered {0} pairs to {1}</source>
        <translation>{0} Paare nach {1} exportiert</translation>
    </message>
    <message>
        <location filename="../playback/playback_controller.py" line="353" />
        <source>Cancelled: the first {0} pairs are in {1}</source>
        <translation>Abgebrochen: die ersten {0} Paare sind in {1}</translation>
    </message>
</context><context>
    <name>PlaybackPage</name>
    <message>
        <location filename="../playback/playback_page.py" line="110" />
        <source>A</source>
        <translation>A</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="110" />
        <source>B</source>
        <translation>B</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="118" />
        <source>Temperature over time</source>
        <translation>Temperatur über der Zeit</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="121" />
        <source>A: fused by</source>
        <translation>A: fusioniert durch</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="121" />
        <source>B: fused by</source>
        <translation>B: fusioniert durch</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="122" />
        <source>Compare with B</source>
        <translation>Mit B vergleichen</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="125" />
        <source>Position</source>
        <translation>Position</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="168" />
        <source>Save as CSV…</source>
        <translation>Als CSV speichern…</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="170" />
        <source>Measuring the recording</source>
        <translation>Die Aufnahme wird gemessen</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="171" />
        <source>measuring %p %</source>
        <translation>messe, %p %</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="183" />
        <source>Render a range</source>
        <translation>Bereich exportieren</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="184" />
        <source>Begin here</source>
        <translation>Beginnt hier</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="184" />
        <source>End here</source>
        <translation>Endet hier</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="187" />
        <source>Range that is looped and rendered</source>
        <translation>Bereich, der wiederholt und exportiert wird</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="194" />
        <source>Render A to a file…</source>
        <translation>A als Datei exportieren…</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="196" />
        <source>Cancel</source>
        <translation>Abbrechen</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="200" />
        <source>Rendering</source>
        <translation>Wird exportiert</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="233" />
        <source>Speed</source>
        <translation>Tempo</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="258" />
        <source>pairs {0} to {1}, {2} in all</source>
        <translation>Paare {0} bis {1}, zusammen {2}</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="355" />
        <source>Save as CSV</source>
        <translation>Als CSV speichern</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="355" />
        <source>Table (*.csv)</source>
        <translation>Tabelle (*.csv)</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="362" />
        <source>Render to</source>
        <translation>Exportieren nach</translation>
    </message>
    <message>
        <location filename="../playback/playback_page.py" line="362" />
        <source>Video (*.mkv *.mp4)</source>
        <translation>Video (*.mkv *.mp4)</translation>
    </message>
</context><context>
    <name>PlotController</name>
    <message>
        <location filename="../playback/plot_controller.py" line="115" />
        <source>Show in folder</source>
        <translation>Im Ordner zeigen</translation>
    </message>
    <message>
        <location filename="../playback/plot_controller.py" line="116" />
        <source>Curves saved: {0}</source>
        <translation>Kurven gespeichert: {0}</translation>
    </message>
    <message>
        <location filename="../playback/plot_controller.py" line="127" />
        <source>Whole picture</source>
        <translation>Ganzes Bild</translation>
    </message>
</context><context>
    <name>PointPicker</name>
    <message>
        <location filename="../setup/point_picker.py" line="47" />
        <source>Pick points - Lumitherm</source>
        <translation>Punkte wählen - Lumitherm</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="52" />
        <source>Visible picture</source>
        <translation>Tageslichtbild</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="53" />
        <source>Thermal picture</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="61" />
        <source>Fused picture</source>
        <translation>Fusioniertes Bild</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="65" />
        <source>Save the calibration</source>
        <translation>Kalibrierung speichern</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="67" />
        <source>Remove the point</source>
        <translation>Punkt entfernen</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="81" />
        <source>Point</source>
        <translation>Punkt</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="81" />
        <source>Off, visible px</source>
        <translation>Daneben, px (Tageslicht)</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="81" />
        <source>Left out, visible px</source>
        <translation>Ausgelassen, px (Tageslicht)</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="81" />
        <source>Used</source>
        <translation>Verwendet</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="83" />
        <source>Points and how far each is off</source>
        <translation>Punkte und wie weit jeder daneben liegt</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="99" />
        <source>Visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="99" />
        <source>Thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="106" />
        <source>Fused by these points</source>
        <translation>Mit diesen Punkten fusioniert</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="198" />
        <source>Click the same place in both pictures: corners of things at the distance that matters.</source>
        <translation>Dieselbe Stelle in beiden Bildern anklicken: Ecken von Dingen in der Entfernung, auf die es ankommt.</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="200" />
        <source>{0} map from {1} points, {2:.2f} visible px rms. Outliers: {3}.</source>
        <translation>Abbildung {0} aus {1} Punkten, {2:.2f} px rms im Tageslichtbild. Ausreißer: {3}.</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="208" />
        <source>yes</source>
        <translation>ja</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="208" />
        <source>no: outlier</source>
        <translation>nein: Ausreißer</translation>
    </message>
    <message>
        <location filename="../setup/point_picker.py" line="210" />
        <source>one picture only</source>
        <translation>nur ein Bild</translation>
    </message>
</context><context>
    <name>ProblemBoard</name>
    <message>
        <location filename="../live/problem_board.py" line="36" />
        <source>Unexpected: {0}: {1}</source>
        <translation>Unerwartet: {0}: {1}</translation>
    </message>
</context><context>
    <name>RecordPanel</name>
    <message>
        <location filename="../live/rig_panels.py" line="103" />
        <source>Recording</source>
        <translation>Aufnahme</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="106" />
        <source>fused</source>
        <translation>fusioniert</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="107" />
        <source>visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="108" />
        <source>thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="115" />
        <source>Record the {0} track</source>
        <translation>Spur „{0}“ aufnehmen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="117" />
        <source>Seconds kept before an event</source>
        <translation>Sekunden, die vor einem Ereignis bewahrt werden</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="118" />
        <source>Seconds recorded after an event</source>
        <translation>Sekunden, die nach einem Ereignis aufgenommen werden</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="119" />
        <source>Also record the view, figures included</source>
        <translation>Auch die Ansicht, mit Zahlen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="123" />
        <source>Apply (restarts the rig)</source>
        <translation>Anwenden (startet die Anlage neu)</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="127" />
        <source>Pre-event</source>
        <translation>Vorlauf</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="128" />
        <source>Post-event</source>
        <translation>Nachlauf</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="129" />
        <source>Tracks</source>
        <translation>Spuren</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="152" />
        <source>Folder: {0}</source>
        <translation>Ordner: {0}</translation>
    </message>
</context><context>
    <name>RecordingController</name>
    <message>
        <location filename="../live/recording_controller.py" line="78" />
        <source>Recorded {0:.1f} s, {1:.1f} MB: {2}
in {3}</source>
        <translation>Aufgenommen: {0:.1f} s, {1:.1f} MB: {2}
in {3}</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="86" />
        <source>Open</source>
        <translation>Öffnen</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="87" />
        <source>Show in folder</source>
        <translation>Im Ordner zeigen</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="94" />
        <source>Event marked at {0}</source>
        <translation>Ereignis markiert um {0}</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="104" />
        <source>Snapshot saved: {0}</source>
        <translation>Schnappschuss gespeichert: {0}</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="127" />
        <source>View recorded: {0}</source>
        <translation>Ansicht aufgenommen: {0}</translation>
    </message>
    <message>
        <location filename="../live/recording_controller.py" line="140" />
        <source>The recording has ended: {0}
in {1}</source>
        <translation>Die Aufnahme ist beendet: {0}
in {1}</translation>
    </message>
</context><context>
    <name>ScaleBar</name>
    <message>
        <location filename="../picture/scale_bar.py" line="53" />
        <source>Colour scale</source>
        <translation>Farbskala</translation>
    </message>
    <message>
        <location filename="../picture/scale_bar.py" line="64" />
        <source>Drag an end to set the range by hand; arrow keys move the ends</source>
        <translation>Ein Ende ziehen, um den Bereich von Hand zu wählen; Pfeiltasten bewegen die Enden</translation>
    </message>
    <message>
        <location filename="../picture/scale_bar.py" line="77" />
        <source>cold</source>
        <translation>kalt</translation>
    </message>
    <message>
        <location filename="../picture/scale_bar.py" line="77" />
        <source>hot</source>
        <translation>heiß</translation>
    </message>
    <message>
        <location filename="../picture/scale_bar.py" line="103" />
        <source>Let the colours follow the scene</source>
        <translation>Farben der Szene folgen lassen</translation>
    </message>
    <message>
        <location filename="../picture/scale_bar.py" line="103" />
        <source>Hold the colours as they are</source>
        <translation>Farben festhalten</translation>
    </message>
</context><context>
    <name>Section</name>
    <message>
        <location filename="../widgets/sections.py" line="132" />
        <source>open</source>
        <translation>offen</translation>
    </message>
    <message>
        <location filename="../widgets/sections.py" line="132" />
        <source>folded</source>
        <translation>zugeklappt</translation>
    </message>
</context><context>
    <name>SettingsDialog</name>
    <message>
        <location filename="../settings_dialog.py" line="41" />
        <source>Settings</source>
        <translation>Einstellungen</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="46" />
        <source>Appearance</source>
        <translation>Aussehen</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="103" />
        <location filename="../settings_dialog.py" line="47" />
        <source>Shortcuts</source>
        <translation>Tastenkürzel</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="49" />
        <source>Close</source>
        <translation>Schließen</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="70" />
        <location filename="../settings_dialog.py" line="62" />
        <source>Same as the system</source>
        <translation>Wie das System</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="63" />
        <source>Dark</source>
        <translation>Dunkel</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="64" />
        <source>Light</source>
        <translation>Hell</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="77" />
        <location filename="../settings_dialog.py" line="67" />
        <source>Colours</source>
        <translation>Farben</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="78" />
        <location filename="../settings_dialog.py" line="72" />
        <source>Language</source>
        <translation>Sprache</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="74" />
        <source>The language changes when the window is opened again.</source>
        <translation>Die Sprache wechselt, wenn das Fenster neu geöffnet wird.</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="81" />
        <source>View, palette, figures, panel and temperature scale are remembered for each rig by its name. Good, caution and bad each have their own sign: ● good, ▲ caution, ■ bad.</source>
        <translation>Ansicht, Palette, Zahlen, Bedienfeld und Temperaturskala werden für jede Anlage unter ihrem Namen gemerkt. Gut, Vorsicht und schlecht haben je ein eigenes Zeichen: ● gut, ▲ Vorsicht, ■ schlecht.</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="99" />
        <source>Group</source>
        <translation>Gruppe</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="99" />
        <source>Action</source>
        <translation>Befehl</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="99" />
        <source>Key</source>
        <translation>Taste</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="121" />
        <source>Back to the original keys</source>
        <translation>Zurück zu den ursprünglichen Tasten</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="144" />
        <source>Key for {0}</source>
        <translation>Taste für {0}</translation>
    </message>
    <message>
        <location filename="../settings_dialog.py" line="162" />
        <source>“{0}” and “{1}” have the same key</source>
        <translation>„{0}“ und „{1}“ haben dieselbe Taste</translation>
    </message>
</context><context>
    <name>SourcePanel</name>
    <message>
        <location filename="../live/rig_panels.py" line="170" />
        <source>Sources</source>
        <translation>Quellen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="173" />
        <source>Visible camera</source>
        <translation>Tageslichtkamera</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="174" />
        <source>Thermal camera</source>
        <translation>Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="179" />
        <source>Use these cameras</source>
        <translation>Diese Kameras verwenden</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="185" />
        <location filename="../live/rig_panels.py" line="184" />
        <source>Search again</source>
        <translation>Erneut suchen</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="188" />
        <source>Visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="189" />
        <source>Thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../live/rig_panels.py" line="220" />
        <source>as the configuration names them</source>
        <translation>wie die Konfiguration sie nennt</translation>
    </message>
</context><context>
    <name>StartPage</name>
    <message>
        <location filename="../setup/start_page.py" line="195" />
        <source>One picture from a visible and a thermal camera</source>
        <translation>Ein Bild aus Tageslicht- und Wärmebildkamera</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="206" />
        <source>Settings</source>
        <translation>Einstellungen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="207" />
        <source>Help</source>
        <translation>Hilfe</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="220" />
        <source>Simulated rig</source>
        <translation>Simulierte Anlage</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="221" />
        <source>Two simulated cameras before a moving scene. No hardware needed.</source>
        <translation>Zwei simulierte Kameras vor einer bewegten Szene. Keine Geräte nötig.</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="226" />
        <source>Set up two cameras</source>
        <translation>Zwei Kameras einrichten</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="227" />
        <source>Pick visible and thermal, see both live, measure the offset, save the configuration.</source>
        <translation>Beide Kameras wählen, beide live sehen, den Versatz messen, die Konfiguration speichern.</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="231" />
        <source>Open</source>
        <translation>Öffnen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="231" />
        <source>A configuration (.yaml) or a recording (.mkv) from disk.</source>
        <translation>Eine Konfiguration (.yaml) oder eine Aufnahme (.mkv) vom Datenträger.</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="241" />
        <source>Recent configurations</source>
        <translation>Letzte Konfigurationen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="243" />
        <location filename="../setup/start_page.py" line="241" />
        <source>None yet</source>
        <translation>Noch keine</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="243" />
        <source>Recent recordings</source>
        <translation>Letzte Aufnahmen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="245" />
        <source>Connected cameras</source>
        <translation>Angeschlossene Kameras</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="245" />
        <source>None found</source>
        <translation>Keine gefunden</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="251" />
        <source>Search again</source>
        <translation>Erneut suchen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="252" />
        <source>Search for cameras again</source>
        <translation>Erneut nach Kameras suchen</translation>
    </message>
    <message>
        <location filename="../setup/start_page.py" line="276" />
        <source>length not known</source>
        <translation>Länge unbekannt</translation>
    </message>
</context><context>
    <name>Status</name>
    <message>
        <location filename="../widgets/status_text.py" line="90" />
        <source>THERMAL ONLY</source>
        <translation>NUR WÄRMEBILD</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="92" />
        <source>VISIBLE ONLY</source>
        <translation>NUR TAGESLICHT</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="112" />
        <source>NOT RECORDING: no pictures</source>
        <translation>KEINE AUFNAHME: keine Bilder</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="114" />
        <source>REC {0}</source>
        <translation>REC {0}</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="117" />
        <source>DISK FULL, NOT RECORDING</source>
        <translation>SPEICHER VOLL, KEINE AUFNAHME</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="119" />
        <source>RECORDING FAILED</source>
        <translation>AUFNAHME FEHLGESCHLAGEN</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="121" />
        <source>DISK {0} LEFT</source>
        <translation>SPEICHER: NOCH {0}</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="272" />
        <location filename="../widgets/status_text.py" line="123" />
        <source>FROZEN</source>
        <translation>STANDBILD</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="125" />
        <source>NO CAMERA</source>
        <translation>KEINE KAMERA</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="129" />
        <source>FALLBACK: the network does not run</source>
        <translation>ERSATZ: Netz läuft nicht</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="136" />
        <source>FALLBACK: preparing the network, {0} %</source>
        <translation>ERSATZ: Netz wird vorbereitet, {0} %</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="138" />
        <source>FALLBACK: preparing the network, {0} s</source>
        <translation>ERSATZ: Netz wird vorbereitet, {0} s</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="174" />
        <source>Rate</source>
        <translation>Rate</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="246" />
        <location filename="../widgets/status_text.py" line="175" />
        <source>fps</source>
        <translation>fps</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="177" />
        <source>fused and shown pictures a second; all stages: </source>
        <translation>fusionierte und gezeigte Bilder je Sekunde; alle Stufen: </translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="182" />
        <source>Latency</source>
        <translation>Latenz</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="185" />
        <source>grab to screen, 50 % and 95 %</source>
        <translation>von der Aufnahme zum Schirm, 50 % und 95 %</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="189" />
        <source>Skew</source>
        <translation>Zeitversatz</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="192" />
        <source>time between the two pictures of a pair</source>
        <translation>Zeit zwischen den beiden Bildern eines Paars</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="196" />
        <source>Drops</source>
        <translation>Verluste</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="198" />
        <source>frames lost, by cause: </source>
        <translation>verlorene Bilder nach Ursache: </translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="198" />
        <source>none</source>
        <translation>keine</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="206" />
        <source>Engine</source>
        <translation>Verfahren</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="209" />
        <source>what fuses the pictures</source>
        <translation>was die Bilder fusioniert</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="220" />
        <source>Cameras</source>
        <translation>Kameras</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="223" />
        <source>being reopened, for ever</source>
        <translation>wird immer wieder geöffnet</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="230" />
        <source>Shutter</source>
        <translation>Verschluss</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="267" />
        <location filename="../widgets/status_text.py" line="231" />
        <source>closed</source>
        <translation>geschlossen</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="233" />
        <source>thermal flat-field correction</source>
        <translation>Abgleich des Wärmebilds</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="250" />
        <source>latency</source>
        <translation>Latenz</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="251" />
        <source>skew</source>
        <translation>Zeitversatz</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="252" />
        <source>drops</source>
        <translation>Verluste</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="259" />
        <source>align</source>
        <translation>Ausricht.</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="265" />
        <source>engine</source>
        <translation>Verfahren</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="267" />
        <source>shutter</source>
        <translation>Verschluss</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="272" />
        <source>picture</source>
        <translation>Bild</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="310" />
        <location filename="../widgets/status_text.py" line="302" />
        <location filename="../widgets/status_text.py" line="293" />
        <location filename="../widgets/status_text.py" line="283" />
        <source>rec</source>
        <translation>Aufn.</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="294" />
        <source>armed</source>
        <translation>bereit</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="295" />
        <source>keeps the seconds before an event</source>
        <translation>bewahrt die Sekunden vor einem Ereignis</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="303" />
        <source>no disk space</source>
        <translation>kein Platz</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="310" />
        <source>failed</source>
        <translation>fehlgeschlagen</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="318" />
        <source>disk</source>
        <translation>Speicher</translation>
    </message>
    <message>
        <location filename="../widgets/status_text.py" line="321" />
        <source>recording time for which there is space</source>
        <translation>Aufnahmezeit, für die Platz ist</translation>
    </message>
</context><context>
    <name>TimingPlot</name>
    <message>
        <location filename="../widgets/timing_plot.py" line="130" />
        <source>Timing plot</source>
        <translation>Zeitverlauf</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="134" />
        <source>loading…</source>
        <translation>wird geladen…</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="163" />
        <source>Latency, ms</source>
        <translation>Latenz, ms</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="164" />
        <location filename="../widgets/timing_plot.py" line="163" />
        <source>50 %</source>
        <translation>50 %</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="164" />
        <location filename="../widgets/timing_plot.py" line="163" />
        <source>95 %</source>
        <translation>95 %</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="164" />
        <source>Skew, ms</source>
        <translation>Zeitversatz, ms</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="165" />
        <source>Rate, fps</source>
        <translation>Rate, fps</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="165" />
        <source>fused</source>
        <translation>fusioniert</translation>
    </message>
    <message>
        <location filename="../widgets/timing_plot.py" line="165" />
        <source>shown</source>
        <translation>gezeigt</translation>
    </message>
</context><context>
    <name>ToolBar</name>
    <message>
        <location filename="../picture/stage.py" line="98" />
        <source>View</source>
        <translation>Ansicht</translation>
    </message>
    <message>
        <location filename="../picture/stage.py" line="102" />
        <source>More</source>
        <translation>Mehr</translation>
    </message>
</context><context>
    <name>VideoView</name>
    <message>
        <location filename="../picture/video_view.py" line="80" />
        <source>Video</source>
        <translation>Video</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="81" />
        <source>Live or recorded picture; wheel zooms, dragging pans</source>
        <translation>Live-Bild oder Aufnahme; Rad vergrößert, Ziehen verschiebt</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="83" />
        <source>fused</source>
        <translation>fusioniert</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="84" />
        <source>visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="85" />
        <source>thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="86" />
        <source>blend</source>
        <translation>Überblendung</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="87" />
        <source>edges</source>
        <translation>Kanten</translation>
    </message>
    <message>
        <location filename="../picture/video_view.py" line="88" />
        <source>B</source>
        <translation>B</translation>
    </message>
</context><context>
    <name>ViewPanel</name>
    <message>
        <location filename="../widgets/view_panel.py" line="36" />
        <source>Picture</source>
        <translation>Bild</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="43" />
        <source>Strength</source>
        <translation>Wärmebild-Anteil</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="45" />
        <source>Hot is</source>
        <translation>Heiß ist</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="46" />
        <source>Hottest</source>
        <translation>Heißeste</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="153" />
        <location filename="../widgets/view_panel.py" line="54" />
        <location filename="../widgets/view_panel.py" line="47" />
        <source>from</source>
        <translation>von</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="84" />
        <location filename="../widgets/view_panel.py" line="48" />
        <source>Blend</source>
        <translation>Überblendung</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="49" />
        <source>Wipe left</source>
        <translation>Links</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="50" />
        <source>Wipe right</source>
        <translation>Rechts</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="93" />
        <location filename="../widgets/view_panel.py" line="51" />
        <source>Palette</source>
        <translation>Palette</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="102" />
        <location filename="../widgets/view_panel.py" line="53" />
        <source>Isotherm</source>
        <translation>Isotherme</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="154" />
        <location filename="../widgets/view_panel.py" line="55" />
        <source>to</source>
        <translation>bis</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="56" />
        <source>Scale</source>
        <translation>Skala</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="64" />
        <source>Strength of thermal in the fused picture</source>
        <translation>Anteil des Wärmebilds am fusionierten Bild</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="65" />
        <source>0 %: the visible picture; 100 %: as the network was trained</source>
        <translation>0 %: nur das Tageslichtbild; 100 %: so, wie das Netz es gelernt hat</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="67" />
        <source>Show heat</source>
        <translation>Wärme hervorheben</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="69" />
        <source>Hottest part of the scene that is coloured</source>
        <translation>Heißester Teil der Szene, der eingefärbt wird</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="73" />
        <source>What is coloured as hot</source>
        <translation>Was als heiß gefärbt wird</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="74" />
        <source>the hottest part of the scene</source>
        <translation>heißester Teil der Szene</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="74" />
        <source>everything above a limit</source>
        <translation>alles über einer Grenze</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="77" />
        <source>Coloured from</source>
        <translation>Gefärbt ab</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="78" />
        <source>Share of thermal in the blend</source>
        <translation>Anteil des Wärmebilds in der Überblendung</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="81" />
        <source>Fused</source>
        <translation>Fusioniert</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="82" />
        <source>Visible</source>
        <translation>Tageslicht</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="83" />
        <source>Thermal</source>
        <translation>Wärmebild</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="85" />
        <source>Edges</source>
        <translation>Kanten</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="88" />
        <source>A</source>
        <translation>A</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="89" />
        <source>B</source>
        <translation>B</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="91" />
        <source>Left of the divider</source>
        <translation>Links der Linie</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="92" />
        <source>Right of the divider</source>
        <translation>Rechts der Linie</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="97" />
        <source>Black-hot</source>
        <translation>Heiß ist schwarz</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="104" />
        <source>Off</source>
        <translation>Aus</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="105" />
        <source>Above</source>
        <translation>Über</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="106" />
        <source>Below</source>
        <translation>Unter</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="107" />
        <source>Between</source>
        <translation>Zwischen</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="111" />
        <source>Isotherm, lower end</source>
        <translation>Isotherme, unteres Ende</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="111" />
        <source>Isotherm, upper end</source>
        <translation>Isotherme, oberes Ende</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="116" />
        <source>Temperature scale</source>
        <translation>Temperaturskala</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="118" />
        <source>Relative (counts)</source>
        <translation>Relativ (Rohwerte)</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="119" />
        <source>TLinear 0.01 K</source>
        <translation>TLinear 0,01 K</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="120" />
        <source>TLinear 0.1 K</source>
        <translation>TLinear 0,1 K</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="121" />
        <source>1/64 K a count</source>
        <translation>1/64 K je Rohwert</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="122" />
        <source>1/16 K a count</source>
        <translation>1/16 K je Rohwert</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="123" />
        <source>Simulated rig</source>
        <translation>Simulierte Anlage</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="153" />
        <source>below</source>
        <translation>unter</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="154" />
        <source>above</source>
        <translation>über</translation>
    </message>
    <message>
        <location filename="../widgets/view_panel.py" line="176" />
        <source>{kelvin} K a count</source>
        <translation>{kelvin} K je Rohwert</translation>
    </message>
</context><context>
    <name>WindowController</name>
    <message>
        <location filename="../window_controller.py" line="164" />
        <source>alarm {0}</source>
        <translation>Alarm {0}</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="168" />
        <source>This computer has no sound output: alarms are shown, not heard</source>
        <translation>Dieser Rechner hat keine Tonausgabe: Alarme sind zu sehen, nicht zu hören</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="208" />
        <source>Leave</source>
        <translation>Verlassen</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="274" />
        <source>reading {0}…</source>
        <translation>{0} wird gelesen…</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="282" />
        <source>opening {0}…</source>
        <translation>{0} wird geöffnet…</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="339" />
        <source>Open</source>
        <translation>Öffnen</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="342" />
        <source>{0} cannot be opened here: wanted a configuration (.yaml), a recording or videos (.mkv, .mp4)</source>
        <translation>{0} lässt sich hier nicht öffnen: gesucht ist eine Konfiguration (.yaml), eine Aufnahme oder Videos (.mkv, .mp4)</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="444" />
        <source>A recording is running</source>
        <translation>Es wird aufgenommen</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="445" />
        <source>A recording is running. It will be ended and kept:</source>
        <translation>Es wird aufgenommen. Die Aufnahme wird beendet und behalten:</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="447" />
        <source>Stop recording: {0}</source>
        <translation>Aufnahme beenden: {0}</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="448" />
        <source>Go on recording</source>
        <translation>Weiter aufnehmen</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="463" />
        <source>Cameras off</source>
        <translation>Kameras aus</translation>
    </message>
    <message>
        <location filename="../window_controller.py" line="470" />
        <source>Quit</source>
        <translation>Beenden</translation>
    </message>
</context></TS>
